#include "disk/transfer_check.h"

#include "base/check.h"

namespace corral {

namespace {
template <class Span>
std::uint64_t total_aligned_bytes(const Device& device, std::uint64_t offset_bytes, std::span<const Span> spans) {
  const std::uint64_t sector_bytes = device.geometry().sector_bytes;
  CHECK_INVARIANT(offset_bytes % sector_bytes == 0);
  std::uint64_t total = 0;
  for (const Span& span : spans) {
    CHECK_INVARIANT(span.size() % sector_bytes == 0);
    CHECK_INVARIANT(reinterpret_cast<std::uintptr_t>(span.data()) % sector_bytes == 0);
    total += span.size();
  }
  return total;
}

bool within(const Device& device, std::uint64_t offset_bytes, std::uint64_t length_bytes) {
  std::uint64_t size = device.geometry().size_bytes;
  return offset_bytes <= size && length_bytes <= size - offset_bytes;
}

std::unexpected<Error> past_end(const Device& device, int code, const char* operation, std::uint64_t offset_bytes,
                                std::uint64_t length_bytes) {
  return fail_device(code, "{}: {} of {} bytes at offset {} reaches past the device's end at {}", device.name(),
                     operation, length_bytes, offset_bytes, device.geometry().size_bytes);
}

std::unexpected<Error> read_only(const Device& device, const char* operation, std::uint64_t offset_bytes) {
  return fail_device(EROFS, "{}: {} at offset {} refused: the device is open read-only", device.name(), operation,
                     offset_bytes);
}
}  // namespace

Result<std::uint64_t> check_read(const Device& device, std::uint64_t offset_bytes, std::span<const ReadSpan> spans) {
  std::uint64_t length = total_aligned_bytes(device, offset_bytes, spans);
  if (!within(device, offset_bytes, length)) return past_end(device, EINVAL, "read", offset_bytes, length);
  return length;
}

Result<std::uint64_t> check_write(const Device& device, std::uint64_t offset_bytes, std::span<const WriteSpan> spans) {
  std::uint64_t length = total_aligned_bytes(device, offset_bytes, spans);
  if (device.geometry().read_only) return read_only(device, "write", offset_bytes);
  if (!within(device, offset_bytes, length)) return past_end(device, ENOSPC, "write", offset_bytes, length);
  return length;
}

Result<> check_discard(const Device& device, std::uint64_t offset_bytes, std::uint64_t length_bytes) {
  const DeviceGeometry& geometry = device.geometry();
  CHECK_INVARIANT(offset_bytes % geometry.sector_bytes == 0 && length_bytes % geometry.sector_bytes == 0);
  if (geometry.read_only) return read_only(device, "discard", offset_bytes);
  if (!within(device, offset_bytes, length_bytes))
    return past_end(device, EINVAL, "discard", offset_bytes, length_bytes);
  if (geometry.discard_granularity_bytes == 0)
    return fail_device(EOPNOTSUPP, "{}: the device cannot discard", device.name());
  return {};
}

}  // namespace corral
