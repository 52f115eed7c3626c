/// Persistent reservations of a SCSI disk that is reached over several paths, each of which is an I_T nexus of its own:
/// a key is registered on every one, since writes may take any; all else goes over the first path that answers.
///
/// Over SG_IO rather than the kernel's IOC_PR ioctls: those ask for APTPL with every registration, which disks without
/// it refuse, and read neither keys nor reservation.
#pragma once

#include <memory>
#include <vector>

#include "disk/reservation.h"
#include "disk/scsi_reservations.h"

namespace corral {

class PathReservations final : public Reservations {
 public:
  /// At least one path, each to the same disk.
  PathReservations(Executor& executor, std::vector<std::unique_ptr<scsi::Transport>> paths);

  /// Where one path fails the error is its; the others may have been registered by then.
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
  Task<Result<>> reset_logical_unit() override;

 private:
  struct Path {
    std::unique_ptr<scsi::Transport> transport;
    std::unique_ptr<ScsiReservations> reservations;
  };
  /// Asks path after path until one answers.
  template <class T>
  Task<Result<T>> ask(Task<Result<T>> (Reservations::*question)());
  /// Where a path lost the change, or its answer, only the caller can tell what to do.
  Reservations& first() { return *paths_.front().reservations; }

  std::vector<Path> paths_;
};

}  // namespace corral
