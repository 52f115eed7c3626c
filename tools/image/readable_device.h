/// A disk of which some places cannot be read, for tools that take what can be had.
#pragma once

#include <cstdint>
#include <set>

#include "disk/forwarding_device.h"

namespace corral::image {

/// Reads zeros where the device gives none, and remembers where that was. Writes nothing. All else is the device's.
class ReadableDevice final : public ForwardingDevice {
 public:
  /// The device outlives it.
  explicit ReadableDevice(Device& device) : ForwardingDevice(device) {}

  using Device::read;
  using Device::write;
  Task<Result<>> read(std::uint64_t offset_bytes, std::span<const ReadSpan> spans) override;
  Task<Result<>> write(std::uint64_t, std::span<const WriteSpan>, WriteMode) override { co_return fail(EROFS); }
  Task<Result<>> flush() override { co_return Result<>{}; }
  Task<Result<>> discard(std::uint64_t, std::uint64_t) override { co_return fail(EROFS); }

  /// Numbers of the device's sectors that could not be read.
  const std::set<std::uint64_t>& unreadable() const { return unreadable_; }
  /// Whether any of these bytes could not be read.
  bool lacks(std::uint64_t offset_bytes, std::uint64_t length_bytes) const;

 private:
  std::set<std::uint64_t> unreadable_;
};

}  // namespace corral::image
