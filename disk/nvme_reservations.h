/// Reservations of an NVMe namespace: the kernel's IOC_PR ioctls (linux/pr.h) make changes, NVMe's Reservation Report
/// (NVME_IOCTL_IO_CMD, opcode 0Eh) reads. NVMe has one registration per host, whatever its paths, and no unit
/// attentions.
///
/// The kernel asks for persistence through power loss with every registration; `persist` false cannot be had.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/file_descriptor.h"
#include "base/sync.h"
#include "disk/event_loop.h"
#include "disk/helper_threads.h"
#include "disk/reservation.h"
#include "disk/reservation_format.h"

namespace corral {

class NvmeReservations final : public Reservations {
 public:
  /// Whether the open block device is an NVMe namespace.
  static bool is_namespace(int descriptor);

  NvmeReservations(EventLoop& loop, FileDescriptor device, std::string name);

  Task<Result<>> register_key(ReservationKey old_key, ReservationKey new_key, bool persist) override;
  Task<Result<>> register_and_ignore(ReservationKey new_key, bool persist) override;
  Task<Result<>> reserve(ReservationKey own_key) override;
  Task<Result<>> release(ReservationKey own_key) override;
  Task<Result<>> clear(ReservationKey own_key) override;
  Task<Result<>> preempt(ReservationKey own_key, ReservationKey victim) override;
  Task<Result<>> preempt_and_abort(ReservationKey own_key, ReservationKey victim) override;
  Task<Result<RegisteredKeys>> read_keys() override;
  Task<Result<ReservationState>> read_reservation() override;
  Task<Result<ReservationCapabilities>> report_capabilities() override;
  /// NVMe has no such reset of a namespace alone: EOPNOTSUPP.
  Task<Result<>> reset_logical_unit() override;

 private:
  Task<Result<>> change(const char* command, std::function<int(int)> call);
  Task<Result<reservation_format::NvmeReport>> report();

  std::string name_;
  std::shared_ptr<FileDescriptor> device_;
  HelperThreads helper_;
  Mutex turn_;
};

}  // namespace corral
