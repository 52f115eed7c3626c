#include "disk/kept_memory_device.h"

#include <algorithm>
#include <vector>

#include "base/aligned_buffer.h"
#include "base/sync.h"

namespace corral {

struct KeptMemoryDevice::Transfer {
  Transfer(Executor& executor, std::size_t bytes) : memory(bytes), done(executor) {}

  AlignedBuffer memory;
  Completion<Result<>> done;
};

namespace {
template <class Span>
std::size_t bytes_in(std::span<const Span> spans) {
  std::size_t bytes = 0;
  for (const Span& span : spans)
    bytes += span.size();
  return bytes;
}
}  // namespace

Task<void> KeptMemoryDevice::read_there(std::uint64_t offset_bytes, std::shared_ptr<Transfer> transfer) {
  transfer->done.set(co_await device_.read(offset_bytes, transfer->memory.span()));
}

Task<void> KeptMemoryDevice::write_there(std::uint64_t offset_bytes, WriteMode mode,
                                         std::shared_ptr<Transfer> transfer) {
  transfer->done.set(co_await device_.write(offset_bytes, transfer->memory.span(), mode));
}

Task<Result<>> KeptMemoryDevice::read(std::uint64_t offset_bytes, std::span<const ReadSpan> spans) {
  const std::vector<ReadSpan> kept(spans.begin(), spans.end());
  auto transfer = std::make_shared<Transfer>(executor_, bytes_in(spans));
  transfers_.spawn(read_there(offset_bytes, transfer));
  CO_TRY_VOID(co_await transfer->done.wait());
  auto from = transfer->memory.span().begin();
  for (const ReadSpan& span : kept) {
    std::copy_n(from, span.size(), span.begin());
    from += static_cast<std::ptrdiff_t>(span.size());
  }
  co_return Result<>{};
}

Task<Result<>> KeptMemoryDevice::write(std::uint64_t offset_bytes, std::span<const WriteSpan> spans, WriteMode mode) {
  auto transfer = std::make_shared<Transfer>(executor_, bytes_in(spans));
  auto to = transfer->memory.span().begin();
  for (const WriteSpan& span : spans)
    to = std::ranges::copy(span, to).out;
  transfers_.spawn(write_there(offset_bytes, mode, transfer));
  co_return co_await transfer->done.wait();
}

}  // namespace corral
