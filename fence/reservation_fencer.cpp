#include "fence/reservation_fencer.h"

#include <algorithm>
#include <functional>
#include <optional>
#include <utility>

#include "base/planted_bug.h"

namespace corral {

using namespace std::chrono_literals;

namespace {
/// How often a command is tried whose outcome was not known, or that others' changes came before.
constexpr int kAttempts = 16;
/// How long a disk may take for a command that it has taken in, where nothing makes it give the command up.
constexpr Duration kCommandTime = 30s;

/// Errors after which the keys are read and the decision is made anew.
bool is_open(const Error& error) {
  return error.code() == EAGAIN || error.code() == ECONNABORTED || error.code() == EBADE;
}
}  // namespace

ReservationFencer::ReservationFencer(Executor& executor, Reservations& reservations, ReservationCapabilities can,
                                     WriteGate* writes, cluster::Uuid cluster, Logger log)
    : executor_(executor),
      reservations_(reservations),
      can_(can),
      writes_(writes),
      cluster_(cluster),
      log_(std::move(log)),
      turn_(executor) {}

std::unexpected<Error> ReservationFencer::own_key_lost() const {
  return fail_device(EBADE, "this node's key {:016x} was removed from the disk", own_.value);
}

Task<Result<>> ReservationFencer::admit(Member self) {
  Mutex::Guard turn = co_await turn_.lock();
  own_ = ReservationKey(key_of(self));
  CO_TRY_VOID(co_await register_own(own_));
  co_return co_await reserve_if_free();
}

/// A new life's key: nobody knows of it yet, so nobody can have removed it, and to register it twice does no harm.
Task<Result<>> ReservationFencer::register_own(ReservationKey key) {
  Result<> done = fail_device(EAGAIN, "the registrations change too fast");
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    done = co_await reservations_.register_and_ignore(key, persist());
    if (done || (done.error().code() != EAGAIN && done.error().code() != ECONNABORTED)) co_return done;
  }
  co_return done;
}

Task<Result<>> ReservationFencer::reserve_if_free() {
  Result<> done = fail_device(EAGAIN, "the reservation changes too fast");
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    CO_TRY(ReservationState state, co_await reservations_.read_reservation());
    if (state.type == ReservationType::write_exclusive_registrants_only) co_return Result<>{};
    if (state.type != ReservationType::none)
      co_return fail_device(EBUSY,
                            "somebody else holds a reservation of type {} with key {:016x} on the disk; clear it "
                            "(sg_persist --out --clear) if it is not in use",
                            static_cast<unsigned>(state.type), state.holder.value);
    done = co_await reservations_.reserve(own_);
    if (!done && !is_open(done.error())) co_return done;
  }
  co_return done;
}

/// True for `aborted` if nothing of the victim's can be under way any more.
Task<Result<>> ReservationFencer::remove_key(ReservationKey victim, bool& aborted) {
  aborted = false;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    CO_TRY(RegisteredKeys keys, co_await reservations_.read_keys());
    if (!keys.contains(own_)) co_return own_key_lost();
    if (!keys.contains(victim)) co_return Result<>{};
    const bool with_abort = can_.preempt_and_abort.value_or(true) && !planted(PlantedBug::fencing_without_abort);
    const Result<> done = with_abort ? co_await reservations_.preempt_and_abort(own_, victim)
                                     : co_await reservations_.preempt(own_, victim);
    aborted = done && with_abort;
    if (!done && with_abort && done.error().code() == EOPNOTSUPP)
      can_.preempt_and_abort = false;
    else if (!done && !is_open(done.error()))
      co_return done;
  }
  co_return fail_device(EAGAIN, "key {:016x} is still registered after {} attempts to remove it", victim.value,
                        kAttempts);
}

Task<Result<>> ReservationFencer::settle_in_flight() {
  if (can_.logical_unit_reset) co_return co_await reservations_.reset_logical_unit();
  log_.warning("the disk can abort no commands: waiting {} s for what the fenced node may have sent",
               kCommandTime / 1s);
  co_await executor_.sleep_for(kCommandTime);
  co_return Result<>{};
}

Task<Result<RegisteredKeys>> ReservationFencer::check_fenced(ReservationKey victim) {
  CO_TRY(RegisteredKeys keys, co_await reservations_.read_keys());
  if (!keys.contains(own_)) co_return own_key_lost();
  if (keys.contains(victim)) co_return fail_device(EAGAIN, "key {:016x} came back", victim.value);
  CO_TRY(ReservationState state, co_await reservations_.read_reservation());
  if (state.type != ReservationType::write_exclusive_registrants_only)
    co_return fail_device(EAGAIN, "the disk has no reservation any more, and keeps nobody from writing");
  co_return keys;
}

Task<Result<>> ReservationFencer::verify(Member victim) {
  Mutex::Guard turn = co_await turn_.lock();
  if (planted(PlantedBug::pretended_fencing)) co_return Result<>{};
  CO_TRY_VOID(co_await check_fenced(ReservationKey(key_of(victim))));
  co_return Result<>{};
}

Task<Result<>> ReservationFencer::fence(Member victim) {
  Mutex::Guard turn = co_await turn_.lock();
  const ReservationKey key(key_of(victim));
  if (planted(PlantedBug::pretended_fencing)) co_return Result<>{};
  bool aborted = false;
  CO_TRY_VOID(co_await remove_key(key, aborted));
  // Somebody may have removed the key and not come to the rest.
  if (!aborted && !planted(PlantedBug::fencing_without_abort)) CO_TRY_VOID(co_await settle_in_flight());
  CO_TRY(RegisteredKeys keys, co_await check_fenced(key));
  log_.info("fenced {}: key {:016x} removed, generation {}", victim.describe(), key.value, keys.generation);
  co_return Result<>{};
}

/// The disk had neither reservation nor keys when it was last asked.
Task<Result<>> ReservationFencer::register_again(const std::function<bool()>& certain) {
  std::optional<WriteGate::Hold> hold;
  if (writes_ != nullptr) co_await hold.emplace(*writes_).drained();
  CO_TRY(ReservationState state, co_await reservations_.read_reservation());
  if (state.type != ReservationType::none) co_return own_key_lost();
  if (!certain()) co_return own_key_lost();
  log_.warning("the disk has lost the registrations of its nodes: registering again");
  CO_TRY_VOID(co_await register_own(own_));
  if (certain()) co_return Result<>{};
  const auto lost = own_key_lost();
  [[maybe_unused]] Result<> undone =
      co_await reservations_.register_key(std::exchange(own_, {}), {}, persist());  // or others remove it
  co_return lost;
}

Task<Result<>> ReservationFencer::maintain(Users users) {
  const auto& [members, others, certain] = users;
  Mutex::Guard turn = co_await turn_.lock();
  if (!own_) co_return Result<>{};
  CO_TRY(ReservationState state, co_await reservations_.read_reservation());
  CO_TRY(RegisteredKeys keys, co_await reservations_.read_keys());
  const bool reserved = state.type != ReservationType::none;
  if (!keys.contains(own_)) {
    if (reserved) co_return own_key_lost();
    CO_TRY_VOID(co_await register_again(certain));
    CO_TRY(keys, co_await reservations_.read_keys());
  }
  if (!reserved) {
    const bool all_here =
        std::ranges::all_of(members, [&](std::uint64_t key) { return keys.contains(ReservationKey(key)); });
    if (all_here) CO_TRY_VOID(co_await reserve_if_free());
    co_return Result<>{};
  }
  const bool in_use = std::ranges::find(members, state.holder.value) != members.end() ||
                      std::ranges::find(others, state.holder.value) != others.end();
  if (state.type != ReservationType::write_exclusive_registrants_only || in_use) co_return Result<>{};
  log_.info("taking the reservation over from key {:016x}, whose node has left", state.holder.value);
  bool aborted = false;
  co_return co_await remove_key(state.holder, aborted);
}

Task<Result<>> ReservationFencer::leave(bool last) {
  Mutex::Guard turn = co_await turn_.lock();
  if (!own_) co_return Result<>{};
  CO_TRY(ReservationState state, co_await reservations_.read_reservation());
  CO_TRY(RegisteredKeys keys, co_await reservations_.read_keys());
  const ReservationKey own = own_;
  const bool reserved = state.type == ReservationType::write_exclusive_registrants_only;
  if (last && reserved && keys.contains(own) && state.holder != own) {
    bool aborted = false;
    CO_TRY_VOID(co_await remove_key(state.holder, aborted));
  }
  const bool others = !last && std::ranges::any_of(keys.keys, [own](ReservationKey key) { return key != own; });
  // Unregistering would end the reservation, and let the fenced write until another one is made.
  if (state.holder == own && others) {
    own_ = {};
    co_return Result<>{};
  }
  co_return co_await give_up_key(keys);
}

Task<Result<>> ReservationFencer::leave_in_force() {
  Mutex::Guard turn = co_await turn_.lock();
  if (!own_) co_return Result<>{};
  CO_TRY(ReservationState state, co_await reservations_.read_reservation());
  CO_TRY(RegisteredKeys keys, co_await reservations_.read_keys());
  if (state.holder != own_) co_return co_await give_up_key(keys);
  log_.warning(
      "the disk's reservation stays, held by key {:016x}: a node that was fenced has not come back since, and "
      "what it had sent may still arrive; when it is known to be off, \"corral fence clear --stale\" ends it",
      own_.value);
  own_ = {};
  co_return Result<>{};
}

Task<Result<>> ReservationFencer::give_up_key(const RegisteredKeys& keys) {
  const ReservationKey own = std::exchange(own_, {});
  if (!keys.contains(own)) co_return Result<>{};
  Result<> left = co_await reservations_.register_key(own, {}, persist());
  if (!left && left.error().code() == EBADE) co_return Result<>{};
  co_return left;
}

}  // namespace corral
