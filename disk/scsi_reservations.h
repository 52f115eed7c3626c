/// Persistent reservations over any way that takes SCSI commands.
#pragma once

#include <span>

#include "base/sync.h"
#include "disk/reservation.h"
#include "disk/reservation_format.h"
#include "disk/scsi.h"

namespace corral {

class ScsiReservations final : public Reservations {
 public:
  /// `transport` must outlive it.
  ScsiReservations(Executor& executor, scsi::Transport& transport);

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
  using Action = reservation_format::Action;
  Task<Result<>> change(Action action, ReservationKey key, ReservationKey action_key, bool persist);
  /// Executes until no unit attention and no full task set stands in the way, and a question also where the connection
  /// breaks; `data` becomes what came.
  Task<Result<scsi::Outcome>> execute(scsi::Command command, std::span<std::byte> data, bool stop_at_changes);
  Task<Result<std::size_t>> query(reservation_format::Query query, std::span<std::byte> into);
  std::unexpected<Error> refused(const scsi::Command& command, const scsi::Outcome& outcome) const;

  Executor& executor_;
  scsi::Transport& transport_;
  Mutex turn_;
};

}  // namespace corral
