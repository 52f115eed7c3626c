#include "tools/image/readable_device.h"

#include <algorithm>

namespace corral::image {

namespace {
/// A disk that gives nothing any more is not worth going on with.
constexpr std::size_t kMostUnreadable = 1 << 20;
}  // namespace

Task<Result<>> ReadableDevice::read(std::uint64_t offset_bytes, std::span<const ReadSpan> spans) {
  Result<> whole = co_await device_.read(offset_bytes, spans);
  if (whole || whole.error().code() != EIO) co_return whole;
  const std::uint32_t sector = geometry().sector_bytes;
  std::uint64_t offset = offset_bytes;
  for (ReadSpan span : spans) {
    for (std::size_t at = 0; at < span.size(); at += sector, offset += sector) {
      const ReadSpan part = span.subspan(at, sector);
      const Result<> read = co_await device_.read(offset, part);
      if (read) continue;
      if (read.error().code() != EIO || unreadable_.size() == kMostUnreadable) co_return read;
      unreadable_.insert(offset / sector);
      std::ranges::fill(part, std::byte{0});
    }
  }
  co_return Result<>{};
}

bool ReadableDevice::lacks(std::uint64_t offset_bytes, std::uint64_t length_bytes) const {
  const std::uint32_t sector = geometry().sector_bytes;
  const auto first = unreadable_.lower_bound(offset_bytes / sector);
  return first != unreadable_.end() && *first * sector < offset_bytes + length_bytes;
}

}  // namespace corral::image
