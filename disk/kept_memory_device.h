/// A device for coroutines that may be destroyed while they wait for it, as those of a node are when the node is lost:
/// every operation has memory of its own, which lives until the device below has completed it (see device.h, Lifetime).
/// A transfer is copied once more by that: not for file data.
#pragma once

#include <memory>

#include "disk/device.h"

namespace corral {

class KeptMemoryDevice final : public Device {
 public:
  /// The device outlives it, and has completed all operations, or is about to be destroyed, when this is destroyed.
  KeptMemoryDevice(Executor& executor, Device& device) : executor_(executor), device_(device), transfers_(executor) {}

  const std::string& name() const override { return device_.name(); }
  const DeviceGeometry& geometry() const override { return device_.geometry(); }
  using Device::read;
  using Device::write;
  Task<Result<>> read(std::uint64_t offset_bytes, std::span<const ReadSpan> spans) override;
  Task<Result<>> write(std::uint64_t offset_bytes, std::span<const WriteSpan> spans, WriteMode mode) override;
  Task<Result<>> flush() override { return device_.flush(); }
  Task<Result<>> discard(std::uint64_t offset_bytes, std::uint64_t length_bytes) override {
    return device_.discard(offset_bytes, length_bytes);
  }
  Reservations* reservations() override { return device_.reservations(); }
  LifeLocks* life_locks() override { return device_.life_locks(); }

 private:
  struct Transfer;
  Task<void> read_there(std::uint64_t offset_bytes, std::shared_ptr<Transfer> transfer);
  Task<void> write_there(std::uint64_t offset_bytes, WriteMode mode, std::shared_ptr<Transfer> transfer);

  Executor& executor_;
  Device& device_;
  Scope transfers_;
};

}  // namespace corral
