/// Registrations and the reservation of a simulated disk, as SPC-4 5.13 has them: the disk's side of reservation.h. A
/// nexus is one initiator's way to the disk; a node that starts anew comes through a new one.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <vector>

#include "base/result.h"
#include "base/strong.h"
#include "disk/reservation.h"

namespace corral {

/// An I_T nexus of a simulated disk.
using NexusId = Strong<struct NexusIdTag, std::uint32_t>;

class ReservationTable {
 public:
  /// What targets differ in.
  struct Features {
    bool preempt_and_abort = true;
    bool persist_through_power_loss = true;
    bool logical_unit_reset = true;
  };
  void set_features(Features features) { features_ = features; }
  const Features& features() const { return features_; }

  NexusId add_nexus() { return NexusId(++last_nexus_); }
  /// They are numbered from 1.
  NexusId last_nexus() const { return NexusId(last_nexus_); }
  /// Whether a write, discard or flush that arrives through the nexus now is accepted. Reads always are.
  bool may_write(NexusId nexus) const;
  /// Takes the unit attention 2A/03 to 2A/05 that waits for the nexus, if one does: its next command finds it.
  bool take_attention(NexusId nexus) { return attentions_.erase(nexus) > 0; }

  /// The commands. EBADE, EOPNOTSUPP as in reservation.h.
  Result<> register_key(NexusId nexus, ReservationKey old_key, ReservationKey new_key, bool persist);
  Result<> register_and_ignore(NexusId nexus, ReservationKey new_key, bool persist);
  Result<> reserve(NexusId nexus, ReservationKey own_key);
  Result<> release(NexusId nexus, ReservationKey own_key);
  Result<> clear(NexusId nexus, ReservationKey own_key);
  /// The nexuses that lost their registration: with PREEMPT AND ABORT, those whose commands are aborted.
  Result<std::vector<NexusId>> preempt(NexusId nexus, ReservationKey own_key, ReservationKey victim);
  RegisteredKeys keys() const;
  ReservationState reservation() const;
  ReservationCapabilities capabilities() const;

  /// Registrations are gone unless they were to persist; nobody's attention waits any more.
  void power_on();

 private:
  struct Registration {
    NexusId nexus;
    ReservationKey key;
  };
  const Registration* find(NexusId nexus) const;
  bool registered_as(NexusId nexus, ReservationKey key) const;
  Result<> check_persist(bool persist) const;
  void put(NexusId nexus, ReservationKey key);
  void end_reservation();
  void attend_others(NexusId except);

  Features features_;
  std::uint32_t last_nexus_ = 0;
  std::uint32_t generation_ = 0;
  bool persisting_ = false;
  std::vector<Registration> registrations_;
  std::optional<NexusId> holder_;
  std::set<NexusId> attentions_;
};

}  // namespace corral
