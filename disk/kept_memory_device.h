/// A device for coroutines that may be destroyed while they wait for it, as those of a node are when the node is lost:
/// every operation has memory of its own, which lives until the device below has completed it (see device.h, Lifetime).
/// A transfer is copied once more by that: not for file data.
#pragma once

#include <memory>

#include "disk/forwarding_device.h"

namespace corral {

class KeptMemoryDevice final : public ForwardingDevice {
 public:
  /// The device outlives it, and has completed all operations, or is about to be destroyed, when this is destroyed.
  KeptMemoryDevice(Executor& executor, Device& device)
      : ForwardingDevice(device), executor_(executor), transfers_(executor) {}

  using Device::read;
  using Device::write;
  Task<Result<>> read(std::uint64_t offset_bytes, std::span<const ReadSpan> spans) override;
  Task<Result<>> write(std::uint64_t offset_bytes, std::span<const WriteSpan> spans, WriteMode mode) override;

 private:
  struct Transfer;
  Task<void> read_there(std::uint64_t offset_bytes, std::shared_ptr<Transfer> transfer);
  Task<void> write_there(std::uint64_t offset_bytes, WriteMode mode, std::shared_ptr<Transfer> transfer);

  Executor& executor_;
  Scope transfers_;
};

}  // namespace corral
