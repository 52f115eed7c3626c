/// A device whose writes can be held back: for moments in which nothing of this node may be on its way to the disk, or
/// nothing more may set out; and for good, when the node is lost.
#pragma once

#include <optional>

#include "base/sync.h"
#include "disk/forwarding_device.h"

namespace corral {

class WriteGate final : public ForwardingDevice {
 public:
  /// The device outlives it.
  WriteGate(Executor& executor, Device& device) : ForwardingDevice(device), changed_(executor) {}

  using Device::read;
  using Device::write;
  Task<Result<>> write(std::uint64_t offset_bytes, std::span<const WriteSpan> spans, WriteMode mode) override;
  Task<Result<>> discard(std::uint64_t offset_bytes, std::uint64_t length_bytes) override;

  /// Writes and discards fail with this error from now on, those that are held back as well.
  void shut(Error why);

  /// Writes and discards that begin meanwhile wait until it is destroyed.
  class [[nodiscard]] Hold {
   public:
    explicit Hold(WriteGate& gate) : gate_(gate) { ++gate_.holds_; }
    Hold(const Hold&) = delete;
    Hold& operator=(const Hold&) = delete;
    ~Hold() {
      --gate_.holds_;
      gate_.changed_.notify_all();
    }
    /// Returns when those that had begun have ended.
    Task<void> drained();

   private:
    WriteGate& gate_;
  };

 private:
  class Passage;
  bool open() const { return holds_ == 0 && !shut_; }
  Task<Result<>> wait_for_opening();

  Signal changed_;
  std::uint32_t holds_ = 0;
  std::uint64_t under_way_ = 0;
  std::optional<Error> shut_;
};

}  // namespace corral
