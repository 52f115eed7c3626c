#include "disk/simulated_reservations.h"

#include <cstring>
#include <memory>

#include "disk/simulated_device.h"

namespace corral {

namespace {
Result<> answered(const SimulatedDevice& device, const char* command, Result<> answer) {
  if (answer) return answer;
  int code = answer.error().code();
  return fail_device(code, "{}: {} failed: {}", device.name(), command, std::strerror(code));
}
}  // namespace

Task<Result<>> SimulatedReservations::register_key(ReservationKey old_key, ReservationKey new_key, bool persist) {
  co_return co_await device_.change_reservations("REGISTER", [=, this](SimulatedDisk& disk) {
    disk.reservations().take_attention(nexus_);
    return answered(device_, "REGISTER", disk.reservations().register_key(nexus_, old_key, new_key, persist));
  });
}

Task<Result<>> SimulatedReservations::register_and_ignore(ReservationKey new_key, bool persist) {
  co_return co_await device_.change_reservations("REGISTER AND IGNORE", [=, this](SimulatedDisk& disk) {
    const char* name = "REGISTER AND IGNORE EXISTING KEY";
    if (disk.reservations().take_attention(nexus_)) return answered(device_, name, fail(EAGAIN));
    return answered(device_, name, disk.reservations().register_and_ignore(nexus_, new_key, persist));
  });
}

Task<Result<>> SimulatedReservations::reserve(ReservationKey own_key) {
  co_return co_await device_.change_reservations("RESERVE", [=, this](SimulatedDisk& disk) {
    disk.reservations().take_attention(nexus_);
    return answered(device_, "RESERVE", disk.reservations().reserve(nexus_, own_key));
  });
}

Task<Result<>> SimulatedReservations::release(ReservationKey own_key) {
  co_return co_await device_.change_reservations("RELEASE", [=, this](SimulatedDisk& disk) {
    disk.reservations().take_attention(nexus_);
    return answered(device_, "RELEASE", disk.reservations().release(nexus_, own_key));
  });
}

Task<Result<>> SimulatedReservations::clear(ReservationKey own_key) {
  co_return co_await device_.change_reservations("CLEAR", [=, this](SimulatedDisk& disk) {
    disk.reservations().take_attention(nexus_);
    return answered(device_, "CLEAR", disk.reservations().clear(nexus_, own_key));
  });
}

Task<Result<>> SimulatedReservations::preempt(ReservationKey own_key, ReservationKey victim) {
  co_return co_await device_.change_reservations("PREEMPT", [=, this](SimulatedDisk& disk) {
    disk.reservations().take_attention(nexus_);
    auto removed = disk.reservations().preempt(nexus_, own_key, victim);
    return answered(device_, "PREEMPT", removed ? Result<>() : std::unexpected(removed.error()));
  });
}

Task<Result<>> SimulatedReservations::preempt_and_abort(ReservationKey own_key, ReservationKey victim) {
  co_return co_await device_.change_reservations("PREEMPT AND ABORT", [=, this](SimulatedDisk& disk) {
    const char* name = "PREEMPT AND ABORT";
    disk.reservations().take_attention(nexus_);
    if (!disk.reservations().features().preempt_and_abort) return answered(device_, name, fail(EOPNOTSUPP));
    auto removed = disk.reservations().preempt(nexus_, own_key, victim);
    if (!removed) return answered(device_, name, std::unexpected(removed.error()));
    for (NexusId gone : *removed)
      disk.abort(gone, device_.contents_random());
    return Result<>();
  });
}

Task<Result<RegisteredKeys>> SimulatedReservations::read_keys() {
  // The command may outlive this frame.
  const auto keys = std::make_shared<RegisteredKeys>();
  CO_TRY_VOID(co_await device_.ask_reservations("READ KEYS", [keys, nexus = nexus_](SimulatedDisk& disk) {
    disk.reservations().take_attention(nexus);
    *keys = disk.reservations().keys();
    return Result<>();
  }));
  co_return *keys;
}

Task<Result<ReservationState>> SimulatedReservations::read_reservation() {
  const auto state = std::make_shared<ReservationState>();
  CO_TRY_VOID(co_await device_.ask_reservations("READ RESERVATION", [state, nexus = nexus_](SimulatedDisk& disk) {
    disk.reservations().take_attention(nexus);
    *state = disk.reservations().reservation();
    return Result<>();
  }));
  co_return *state;
}

Task<Result<ReservationCapabilities>> SimulatedReservations::report_capabilities() {
  const auto capabilities = std::make_shared<ReservationCapabilities>();
  CO_TRY_VOID(co_await device_.ask_reservations("REPORT CAPABILITIES", [capabilities](SimulatedDisk& disk) {
    *capabilities = disk.reservations().capabilities();
    return Result<>();
  }));
  co_return *capabilities;
}

Task<Result<>> SimulatedReservations::reset_logical_unit() {
  co_return co_await device_.change_reservations("LOGICAL UNIT RESET", [this](SimulatedDisk& disk) {
    if (!disk.reservations().features().logical_unit_reset)
      return answered(device_, "LOGICAL UNIT RESET", fail(EOPNOTSUPP));
    disk.abort_all(device_.contents_random());
    return Result<>();
  });
}

}  // namespace corral
