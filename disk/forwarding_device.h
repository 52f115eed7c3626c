/// A device in front of another one: what is the same says nothing, what differs is overridden.
#pragma once

#include "disk/device.h"

namespace corral {

/// Does all that the device below does.
class ForwardingDevice : public Device {
 public:
  const std::string& name() const override { return device_.name(); }
  const DeviceGeometry& geometry() const override { return device_.geometry(); }
  using Device::read;
  using Device::write;
  Task<Result<>> read(std::uint64_t offset_bytes, std::span<const ReadSpan> spans) override {
    return device_.read(offset_bytes, spans);
  }
  Task<Result<>> write(std::uint64_t offset_bytes, std::span<const WriteSpan> spans, WriteMode mode) override {
    return device_.write(offset_bytes, spans, mode);
  }
  Task<Result<>> flush() override { return device_.flush(); }
  Task<Result<>> discard(std::uint64_t offset_bytes, std::uint64_t length_bytes) override {
    return device_.discard(offset_bytes, length_bytes);
  }
  Task<Result<>> refresh_size() override { return device_.refresh_size(); }
  Reservations* reservations() override { return device_.reservations(); }
  LifeLocks* life_locks() override { return device_.life_locks(); }

 protected:
  /// The device outlives it.
  explicit ForwardingDevice(Device& device) : device_(device) {}

  Device& device_;
};

}  // namespace corral
