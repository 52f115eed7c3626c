/// One simulated node's view of a simulated disk's reservations: every command travels for a while, may be held back or
/// lost by the device's faults (SimulatedFault::reservations), and meets the disk as it is then.
#pragma once

#include "disk/reservation.h"
#include "disk/reservation_table.h"

namespace corral {

class SimulatedDevice;

class SimulatedReservations final : public Reservations {
 public:
  SimulatedReservations(SimulatedDevice& device, NexusId nexus) : device_(device), nexus_(nexus) {}

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
  SimulatedDevice& device_;
  NexusId nexus_;
};

}  // namespace corral
