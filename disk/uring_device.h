/// A block device or image file through io_uring, past the page cache where the system allows it (O_DIRECT).
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "base/file_descriptor.h"
#include "base/sync.h"
#include "disk/event_loop.h"
#include "disk/file_life_locks.h"
#include "disk/helper_threads.h"
#include "disk/reservation.h"
#include "disk/ring.h"
#include "disk/storage_device.h"

namespace corral {

/// Exclusive use is O_EXCL on a block device and flock on a file (shared when read-only), which other Corral programs
/// honour.
using UringDeviceOptions = StorageOptions;

class UringDevice final : public StorageDevice {
 public:
  /// Opens at once (blocking) on the loop's thread. EBUSY, with who and what, if exclusive use cannot be had; else what
  /// open() says.
  static Result<std::unique_ptr<UringDevice>> open(EventLoop& loop, const std::string& path,
                                                   UringDeviceOptions options = {});
  /// Waits, blocking, until the kernel has completed what is in flight: close() first where the loop should go on.
  ~UringDevice() override;

  const std::string& name() const override { return name_; }
  const DeviceGeometry& geometry() const override { return geometry_; }
  /// False where the filesystem under an image file refused O_DIRECT.
  bool direct() const { return direct_; }
  const Ring& ring() const { return *ring_; }
  void release_claim() override { claim_ = FileDescriptor(); }

  using Device::read;
  using Device::write;
  Task<Result<>> read(std::uint64_t offset_bytes, std::span<const ReadSpan> spans) override;
  Task<Result<>> write(std::uint64_t offset_bytes, std::span<const WriteSpan> spans, WriteMode mode) override;
  Task<Result<>> flush() override;
  Task<Result<>> discard(std::uint64_t offset_bytes, std::uint64_t length_bytes) override;
  /// Has the kernel ask a SCSI disk, too; other block devices are as large as the kernel believes them to be.
  Task<Result<>> refresh_size() override;

  Task<void> close() override;
  /// Null for an image file, a partition, and whatever else has none.
  Reservations* reservations() override { return reservations_.get(); }
  LifeLocks* life_locks() override { return life_locks_ ? &*life_locks_ : nullptr; }

 private:
  UringDevice(EventLoop& loop, std::string name, FileDescriptor claim, FileDescriptor file, bool direct,
              DeviceGeometry geometry, std::unique_ptr<Ring> ring);
  template <class Span>
  Task<Result<>> transfer(RingRequest::Kind kind, std::uint64_t offset_bytes, std::span<const Span> spans,
                          std::uint64_t length_bytes);
  std::unexpected<Error> closed() const;

  Executor& executor_;
  std::string name_;
  FileDescriptor claim_;  ///< open with O_EXCL, besides file_
  FileDescriptor file_;
  bool direct_;
  DeviceGeometry geometry_;
  Gate gate_;
  std::unique_ptr<Ring> ring_;
  HelperThreads helper_;
  std::unique_ptr<Reservations> reservations_;
  std::optional<FileLifeLocks> life_locks_;
};

}  // namespace corral
