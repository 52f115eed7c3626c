/// Persistent reservations of a shared disk: which I_T nexuses are registered, under which keys, and who may write. The
/// commands only; when to fence whom is for others to decide.
///
/// The only reservation type made here is Write Exclusive - Registrants Only (type 5; SPC-4 5.13, NVMe 1.4 8.8): every
/// registered nexus may write, the rest may read. The terms are SPC-4's. Errors common to all commands:
///
///     EBADE        reservation conflict: this nexus is not registered, or not under the key that the command names, or
///                  (RESERVE) another reservation stands. A node that gets this for its own key has been fenced.
///     EAGAIN       the registrations changed before this command was executed, and it was not: read the keys, decide
///                  anew. Only REGISTER AND IGNORE EXISTING KEY gives this, for it alone would bring back a key that
///                  others have removed meanwhile.
///     ECONNABORTED the way to the disk broke and nobody knows whether the command was executed: read the keys.
///     EOPNOTSUPP   the disk, or the way to it, cannot do this.
///     EPROTO       the disk's answer makes no sense.
///
/// One command at a time per object; a second one waits its turn.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/result.h"
#include "base/strong.h"
#include "base/task.h"

namespace corral {

/// A registration's name. 0 means none.
using ReservationKey = Strong<struct ReservationKeyTag>;

enum class ReservationType : std::uint8_t {
  none = 0,
  write_exclusive = 1,
  exclusive_access = 3,
  write_exclusive_registrants_only = 5,
  exclusive_access_registrants_only = 6,
  write_exclusive_all_registrants = 7,
  exclusive_access_all_registrants = 8,
};

struct RegisteredKeys {
  std::uint32_t generation = 0;      ///< PRGENERATION: grows with every change; 0 after the disk's power on
  std::vector<ReservationKey> keys;  ///< one per registered nexus: several paths of a node give its key several times
  bool contains(ReservationKey key) const;
};

struct ReservationState {
  std::uint32_t generation = 0;
  ReservationType type = ReservationType::none;  ///< none: nobody holds a reservation
  ReservationKey holder{};                       ///< 0 with the all-registrants types, of which every registrant is one
};

/// What the disk says it can do. A false may also mean that it does not say.
struct ReservationCapabilities {
  bool persist_through_power_loss = false;       ///< PTPL_C: APTPL may be asked for
  bool persisting = false;                       ///< PTPL_A: it is in force now
  bool write_exclusive_registrants_only = true;  ///< where the disk lists its types and this is missing: false
  std::optional<bool> preempt_and_abort{};       ///< empty: only trying it tells
  bool logical_unit_reset = false;               ///< reset_logical_unit() is there
};

class Reservations {
 public:
  virtual ~Reservations() = default;

  /// REGISTER: from `old_key` (0: not registered yet) to `new_key` (0: unregister; a reservation that this nexus holds
  /// is released). `persist` asks for APTPL: registrations then survive the disk's power loss.
  virtual Task<Result<>> register_key(ReservationKey old_key, ReservationKey new_key, bool persist) = 0;
  /// REGISTER AND IGNORE EXISTING KEY.
  virtual Task<Result<>> register_and_ignore(ReservationKey new_key, bool persist) = 0;
  /// RESERVE type 5. Success also where this nexus holds it already.
  virtual Task<Result<>> reserve(ReservationKey own_key) = 0;
  /// RELEASE of a type 5 reservation. Success also where this nexus holds none.
  virtual Task<Result<>> release(ReservationKey own_key) = 0;
  /// CLEAR: removes every registration and the reservation.
  virtual Task<Result<>> clear(ReservationKey own_key) = 0;
  /// PREEMPT: removes all registrations under `victim`; where that is the holder's key, this nexus becomes the holder
  /// (type 5). Commands that the victim has in flight may still be executed.
  virtual Task<Result<>> preempt(ReservationKey own_key, ReservationKey victim) = 0;
  /// PREEMPT AND ABORT: the same, and what the victim has in flight is aborted.
  virtual Task<Result<>> preempt_and_abort(ReservationKey own_key, ReservationKey victim) = 0;

  /// READ KEYS, all of them.
  virtual Task<Result<RegisteredKeys>> read_keys() = 0;
  /// READ RESERVATION.
  virtual Task<Result<ReservationState>> read_reservation() = 0;
  /// REPORT CAPABILITIES. EOPNOTSUPP: no reservations on this disk at all.
  virtual Task<Result<ReservationCapabilities>> report_capabilities() = 0;

  /// LOGICAL UNIT RESET: aborts the commands of all nexuses, whose initiators send them again; reservations stay.
  virtual Task<Result<>> reset_logical_unit() = 0;
};

/// Makes the nexus that it goes through a registrant under `key` again, provided that the disk still lists the key. By
/// SPC-4 a nexus whose connection is made anew is what it was; some targets (tgt) keep its key but no longer know that
/// it is its own. A key that is not listed has been removed, by fencing or by the disk's restart: then nothing is done,
/// and that is a success; the next write tells. Nor can a fencing at the same time be undone: what is registered here
/// while others changed something is taken back, and looked at anew. Call it before anything else is written that way.
Task<Result<>> restore_registration(Reservations& reservations, ReservationKey key, bool persist);

}  // namespace corral
