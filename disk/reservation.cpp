#include "disk/reservation.h"

#include <algorithm>

namespace corral {

bool RegisteredKeys::contains(ReservationKey key) const {
  return std::ranges::find(keys, key) != keys.end();
}

Task<Result<>> restore_registration(Reservations& reservations, ReservationKey key, bool persist) {
  constexpr int kAttempts = 16;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    CO_TRY(RegisteredKeys before, co_await reservations.read_keys());
    if (!before.contains(key)) co_return Result<>{};
    Result<> known = co_await reservations.register_key(key, key, persist);
    if (known || known.error().code() != EBADE) co_return known;
    CO_TRY(before, co_await reservations.read_keys());
    if (!before.contains(key)) co_return Result<>{};
    Result<> added = co_await reservations.register_and_ignore(key, persist);
    if (!added && added.error().code() == EAGAIN) continue;
    if (!added) co_return added;
    CO_TRY(RegisteredKeys after, co_await reservations.read_keys());
    // This registration was the only change since the key was last seen.
    if (after.generation == before.generation + 1) co_return Result<>{};
    CO_TRY_VOID(co_await reservations.register_key(key, {}, persist));
  }
  co_return fail_device(EAGAIN, "the registrations change too fast to register key {:x} again", key.value);
}

}  // namespace corral
