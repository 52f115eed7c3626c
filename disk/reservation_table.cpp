#include "disk/reservation_table.h"

#include <algorithm>

namespace corral {

const ReservationTable::Registration* ReservationTable::find(NexusId nexus) const {
  auto found = std::ranges::find(registrations_, nexus, &Registration::nexus);
  return found == registrations_.end() ? nullptr : &*found;
}

bool ReservationTable::registered_as(NexusId nexus, ReservationKey key) const {
  const Registration* registration = find(nexus);
  return registration != nullptr && registration->key == key;
}

bool ReservationTable::may_write(NexusId nexus) const {
  return !holder_ || find(nexus) != nullptr;
}

Result<> ReservationTable::check_persist(bool persist) const {
  if (persist && !features_.persist_through_power_loss) return fail(EOPNOTSUPP);
  return {};
}

void ReservationTable::attend_others(NexusId except) {
  for (const Registration& other : registrations_)
    if (other.nexus != except) attentions_.insert(other.nexus);
}

/// Of a holder that goes: the others learn that nobody holds it (SPC-4 5.13.11.2.2).
void ReservationTable::end_reservation() {
  attend_others(*holder_);
  holder_.reset();
}

void ReservationTable::put(NexusId nexus, ReservationKey key) {
  bool known = find(nexus) != nullptr;
  if (!known && key.value == 0) return;
  ++generation_;
  if (key.value == 0) {
    if (holder_ == nexus) end_reservation();
    std::erase_if(registrations_, [&](const Registration& one) { return one.nexus == nexus; });
  } else if (known) {
    std::ranges::find(registrations_, nexus, &Registration::nexus)->key = key;
  } else {
    registrations_.push_back({nexus, key});
  }
}

Result<> ReservationTable::register_key(NexusId nexus, ReservationKey old_key, ReservationKey new_key, bool persist) {
  const Registration* registration = find(nexus);
  ReservationKey current = registration != nullptr ? registration->key : ReservationKey();
  if (current != old_key) return fail(EBADE);
  return register_and_ignore(nexus, new_key, persist);
}

Result<> ReservationTable::register_and_ignore(NexusId nexus, ReservationKey new_key, bool persist) {
  TRY_VOID(check_persist(persist));
  put(nexus, new_key);
  persisting_ = persist;
  return {};
}

Result<> ReservationTable::reserve(NexusId nexus, ReservationKey own_key) {
  if (!registered_as(nexus, own_key) || (holder_ && holder_ != nexus)) return fail(EBADE);
  holder_ = nexus;
  return {};
}

Result<> ReservationTable::release(NexusId nexus, ReservationKey own_key) {
  if (!registered_as(nexus, own_key)) return fail(EBADE);
  if (holder_ == nexus) end_reservation();
  return {};
}

Result<> ReservationTable::clear(NexusId nexus, ReservationKey own_key) {
  if (!registered_as(nexus, own_key)) return fail(EBADE);
  attend_others(nexus);
  registrations_.clear();
  holder_.reset();
  ++generation_;
  return {};
}

Result<std::vector<NexusId>> ReservationTable::preempt(NexusId nexus, ReservationKey own_key, ReservationKey victim) {
  if (!registered_as(nexus, own_key)) return fail(EBADE);
  if (victim.value == 0) return fail(EOPNOTSUPP);
  bool takes_over = holder_ && registered_as(*holder_, victim);
  std::vector<NexusId> removed;
  for (const Registration& one : registrations_)
    if (one.key == victim && !(takes_over && one.nexus == nexus)) removed.push_back(one.nexus);
  if (removed.empty() && !takes_over) return fail(EBADE);
  std::erase_if(registrations_,
                [&](const Registration& one) { return std::ranges::find(removed, one.nexus) != removed.end(); });
  for (NexusId gone : removed)
    if (gone != nexus) attentions_.insert(gone);
  if (takes_over) holder_ = nexus;
  ++generation_;
  return removed;
}

RegisteredKeys ReservationTable::keys() const {
  RegisteredKeys keys{.generation = generation_, .keys = {}};
  for (const Registration& one : registrations_)
    keys.keys.push_back(one.key);
  return keys;
}

ReservationState ReservationTable::reservation() const {
  ReservationState state{.generation = generation_};
  if (!holder_) return state;
  state.type = ReservationType::write_exclusive_registrants_only;
  state.holder = find(*holder_)->key;
  return state;
}

ReservationCapabilities ReservationTable::capabilities() const {
  return {.persist_through_power_loss = features_.persist_through_power_loss,
          .persisting = persisting_,
          .preempt_and_abort = features_.preempt_and_abort,
          .logical_unit_reset = features_.logical_unit_reset};
}

void ReservationTable::power_on() {
  generation_ = 0;
  attentions_.clear();
  if (persisting_) return;
  registrations_.clear();
  holder_.reset();
}

}  // namespace corral
