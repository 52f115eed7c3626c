/// Fencing by persistent reservations: every node's nexus is registered under its life's key, one of them holds the
/// reservation "write exclusive, registrants only", and a key that is removed takes its node's right to write along
/// (SPC-4 5.13).
///
/// Fencing is PREEMPT AND ABORT, after which nothing of the victim's is on its way. Disks without it (tgt) get PREEMPT
/// and then LOGICAL UNIT RESET, which aborts what all nodes have in flight; the living send theirs again. Where there
/// is neither, commands taken in earlier may still be executed, so it waits as long as the disk may take for one.
///
/// The reservation ends when its holder unregisters. So a holder that leaves only stops writing; the others remove its
/// key by PREEMPT, which hands the reservation over without a gap (maintain()). The last one to leave ends it, whoever
/// holds it: programs that work on an unmounted volume have no key. Where a fenced life was not seen to end it stays.
///
/// Where the disk has lost all registrations (it does not keep them over a power loss), members register anew and make
/// the reservation when all are there. Who finds a reservation without its own key has been fenced. A registration that
/// was long under way may come after others have fenced this life, and let it write again: so nothing of this node's is
/// on its way meanwhile, and nothing goes on unless the node is still certain of its membership afterwards.
#pragma once

#include <functional>

#include "base/sync.h"
#include "disk/reservation.h"
#include "fence/fencing.h"

namespace corral {

class ReservationFencer final : public cluster::Fencer {
 public:
  /// The reservations and `writes` outlive it; null for a process that writes nothing else to the disk.
  ReservationFencer(Executor& executor, Reservations& reservations, ReservationCapabilities can, WriteGate* writes,
                    cluster::Uuid cluster, Logger log);

  std::uint64_t key_of(Member member) const override { return fencing_key(cluster_, member, FencingWay::reservations); }
  Task<Result<>> admit(Member self) override;
  /// In place of admit(): the nexus is registered under this key already.
  void act_as(ReservationKey own) { own_ = own; }
  Task<Result<>> fence(Member victim) override;
  Task<Result<>> verify(Member victim) override;
  Task<Result<>> maintain(Users users) override;
  Task<Result<>> leave(bool last) override;
  Task<Result<>> leave_in_force() override;

 private:
  Task<Result<RegisteredKeys>> check_fenced(ReservationKey victim);
  Task<Result<>> register_own(ReservationKey key);
  Task<Result<>> register_again(const std::function<bool()>& certain);
  Task<Result<>> reserve_if_free();
  Task<Result<>> remove_key(ReservationKey victim, bool& aborted);
  Task<Result<>> settle_in_flight();
  /// Unregisters, which ends the reservation if this node holds it.
  Task<Result<>> give_up_key(const RegisteredKeys& keys);
  bool persist() const { return can_.persist_through_power_loss; }
  std::unexpected<Error> own_key_lost() const;

  Executor& executor_;
  Reservations& reservations_;
  ReservationCapabilities can_;
  WriteGate* writes_;
  cluster::Uuid cluster_;
  Logger log_;
  ReservationKey own_{};
  Mutex turn_;  ///< what one method read still holds when it acts on it, as far as this node is concerned
};

}  // namespace corral
