/// A LUN behind iSCSI, through an initiator of our own (no kernel initiator): one I_T nexus for the life of the object.
/// How lost connections are met, and why that loses and repeats nothing: iscsi_session.h.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/file_descriptor.h"
#include "base/sync.h"
#include "disk/event_loop.h"
#include "disk/iscsi_session.h"
#include "disk/scsi_reservations.h"
#include "disk/storage_device.h"

namespace corral {

class IscsiDevice final : public StorageDevice {
 public:
  /// `name` is as in iscsi_name.h. EINVAL where it is wrong; EBUSY where another program in this network namespace uses
  /// the LUN (exclusive use; other hosts do not see it); else what connecting fails with.
  static Task<Result<std::unique_ptr<IscsiDevice>>> open(EventLoop& loop, std::string name,
                                                         StorageOptions options = {});
  /// close() first, where the target is to see an orderly end.
  ~IscsiDevice() override;

  const std::string& name() const override { return name_; }
  const DeviceGeometry& geometry() const override { return geometry_; }
  Reservations* reservations() override { return &reservations_; }

  using Device::read;
  using Device::write;
  Task<Result<>> read(std::uint64_t offset_bytes, std::span<const ReadSpan> spans) override;
  Task<Result<>> write(std::uint64_t offset_bytes, std::span<const WriteSpan> spans, WriteMode mode) override;
  Task<Result<>> flush() override;
  Task<Result<>> discard(std::uint64_t offset_bytes, std::uint64_t length_bytes) override;
  Task<Result<>> refresh_size() override;
  Task<void> close() override;

  /// Connections made so far, the first included.
  std::uint64_t connections() const { return session_->connections(); }

 private:
  enum class DiscardWay { none, unmap, write_same };
  IscsiDevice(EventLoop& loop, std::string name, FileDescriptor claim, std::unique_ptr<IscsiSession> session,
              StorageOptions options);
  Task<Result<>> learn();
  template <class Span>
  Task<Result<>> transfer(bool writing, bool force_unit_access, std::uint64_t offset_bytes,
                          std::span<const Span> spans);
  Task<Result<>> send(scsi::Command command, IscsiData data, std::uint64_t offset_bytes);
  Task<void> send_part(scsi::Command command, IscsiData data, std::uint64_t offset_bytes, Result<>& result);
  Task<Result<>> synchronize();
  std::unexpected<Error> closed() const;

  Executor& executor_;
  std::string name_;
  FileDescriptor claim_;
  std::unique_ptr<IscsiSession> session_;
  ScsiReservations reservations_;
  DeviceGeometry geometry_;
  bool force_unit_access_ = false;
  DiscardWay discard_way_ = DiscardWay::none;
  std::uint32_t most_transfer_bytes_ = 0;
  std::uint32_t most_discard_blocks_ = 0;
  Semaphore free_;
  Gate gate_;
};

}  // namespace corral
