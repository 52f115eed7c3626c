#include "disk/device.h"

namespace corral {

Task<Result<>> Device::read(std::uint64_t offset_bytes, ReadSpan span) {
  co_return co_await read(offset_bytes, std::span<const ReadSpan>(&span, 1));
}

Task<Result<>> Device::write(std::uint64_t offset_bytes, WriteSpan span, WriteMode mode) {
  co_return co_await write(offset_bytes, std::span<const WriteSpan>(&span, 1), mode);
}

Task<Result<>> Device::refresh_size() {
  co_return Result<>{};
}

}  // namespace corral
