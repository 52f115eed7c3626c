#include "disk/path_reservations.h"

namespace corral {

PathReservations::PathReservations(Executor& executor, std::vector<std::unique_ptr<scsi::Transport>> paths) {
  CHECK_INVARIANT(!paths.empty());
  for (std::unique_ptr<scsi::Transport>& path : paths) {
    auto reservations = std::make_unique<ScsiReservations>(executor, *path);
    paths_.push_back({std::move(path), std::move(reservations)});
  }
}

Task<Result<>> PathReservations::register_key(ReservationKey old_key, ReservationKey new_key, bool persist) {
  for (Path& path : paths_)
    CO_TRY_VOID(co_await path.reservations->register_key(old_key, new_key, persist));
  co_return Result<>{};
}

Task<Result<>> PathReservations::register_and_ignore(ReservationKey new_key, bool persist) {
  for (Path& path : paths_)
    CO_TRY_VOID(co_await path.reservations->register_and_ignore(new_key, persist));
  co_return Result<>{};
}

/// RESERVE and RELEASE belong to one nexus: of several paths it is always the first.
Task<Result<>> PathReservations::reserve(ReservationKey own_key) {
  Result<> reserved = co_await first().reserve(own_key);
  if (reserved || reserved.error().code() != EBADE || paths_.size() == 1) co_return reserved;
  // Another path of this node may hold it, from before the paths were sorted in another way.
  CO_TRY(ReservationState state, co_await read_reservation());
  bool held = state.type == ReservationType::write_exclusive_registrants_only && state.holder == own_key;
  if (held) co_return Result<>{};
  co_return reserved;
}

Task<Result<>> PathReservations::release(ReservationKey own_key) {
  // Releasing what one does not hold is no error.
  for (Path& path : paths_)
    CO_TRY_VOID(co_await path.reservations->release(own_key));
  co_return Result<>{};
}

Task<Result<>> PathReservations::clear(ReservationKey own_key) {
  return first().clear(own_key);
}

Task<Result<>> PathReservations::preempt(ReservationKey own_key, ReservationKey victim) {
  return first().preempt(own_key, victim);
}

Task<Result<>> PathReservations::preempt_and_abort(ReservationKey own_key, ReservationKey victim) {
  return first().preempt_and_abort(own_key, victim);
}

template <class T>
Task<Result<T>> PathReservations::ask(Task<Result<T>> (Reservations::*question)()) {
  for (std::size_t i = 0;; ++i) {
    Result<T> answer = co_await (*paths_[i].reservations.*question)();
    bool unreachable = !answer && answer.error().code() == ECONNABORTED;
    if (!unreachable || i + 1 == paths_.size()) co_return answer;
  }
}

Task<Result<RegisteredKeys>> PathReservations::read_keys() {
  return ask(&Reservations::read_keys);
}

Task<Result<ReservationState>> PathReservations::read_reservation() {
  return ask(&Reservations::read_reservation);
}

Task<Result<ReservationCapabilities>> PathReservations::report_capabilities() {
  return ask(&Reservations::report_capabilities);
}

Task<Result<>> PathReservations::reset_logical_unit() {
  return ask(&Reservations::reset_logical_unit);
}

}  // namespace corral
