/// The lock manager as the rest of a node uses it: coroutines over the Engine, and the Engine's messages over a Link.
///
/// Operations on locks that this node masters end without suspending and without a message. Messages of one turn of the
/// loop to one peer share frames. One thread; the manager outlives the locks and the operations under way.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <unordered_map>

#include "base/log.h"
#include "base/result.h"
#include "base/sync.h"
#include "base/task.h"
#include "cluster/link.h"
#include "dlm/engine.h"

namespace corral::dlm {

using ValueBytes = std::array<std::byte, kLockValueBytes>;

class Lock;
class RangeWait;

/// Told by a Lock. Called from the loop, never from within a call of the Lock's own.
class LockListener {
 public:
  virtual ~LockListener() = default;
  /// Somebody waits for `requested`, and the granted mode is in the way. Said once per granted mode and stronger
  /// request, and again after a change of membership.
  virtual void blocking(Lock& lock, Mode requested) = 0;
};

class LockManager final : public LinkUser {
 public:
  /// All outlive the manager, which attaches itself to the link's channel for locks.
  LockManager(Executor& executor, Link& link, Limits limits, Logger logger);
  ~LockManager() override;

  /// Membership: a new view, numbered higher than the last; a dead member's journal was replayed. A node that leaves in
  /// order has given up all its locks before the view without it is made.
  void enter_view(const View& view);
  void recovered(Member member);
  /// This node is a member no more: what waits fails with ESHUTDOWN, what it had is void.
  void leave_cluster();
  /// Returns when the recovery of the present view is complete, or with ESHUTDOWN when this node is out.
  Task<Result<>> wait_until_running();

  bool running() const { return engine_.running(); }
  bool out_of_cluster() const { return engine_.out_of_cluster(); }
  Member self() const { return engine_.self(); }
  const View& view() const { return engine_.view(); }
  std::size_t locks() const { return engine_.locks(); }
  const EngineCounters& counters() const { return engine_.counters(); }
  Dump dump(DumpScope scope = DumpScope::all) const { return engine_.dump(scope); }
  /// "running", or the step of the recovery and whom it waits for.
  std::string describe_state() const { return engine_.describe_state(); }
  /// Messages of peers that were not used because they broke the protocol.
  std::uint64_t faults() const { return faults_; }

  /// LinkUser.
  void received(Member from, std::span<const std::byte> message) override;
  void connected(Member peer) override;
  void disconnected(Member) override {}

 private:
  friend class Lock;
  friend class PosixLocks;
  friend class RangeWait;

  /// Carries out what the engine wants done. Safe to call while it is under way.
  void act();
  void carry_out(SendAction& action);
  void carry_out(CompleteAction& action);
  void carry_out(BlockingAction& action);
  void carry_out(RangeCompleteAction& action);
  void carry_out(RangeDeadlockAction& action);
  void carry_out(RunningAction& action);
  void carry_out(FaultAction& action);
  Task<void> flush_frames();
  void flush();
  Task<void> tell_listeners();

  Executor& executor_;
  Link& link_;
  Logger logger_;
  Engine engine_;
  bool acting_ = false;
  std::uint64_t faults_ = 0;
  std::unordered_map<LockId, Lock*> locks_;
  struct RangeInFlight {
    Completion<RangeOutcome>* completion;
    const RangeWait* wait;  ///< null: does not wait for other owners
  };
  std::unordered_map<std::uint64_t, RangeInFlight> ranges_;
  std::map<NodeId, FrameWriter> frames_;
  std::deque<BlockingAction> untold_;
  Signal frames_waiting_;
  Signal untold_waiting_;
  Signal state_changed_;
  Scope scope_;
};

/// One lock of this node: its owner's handle. Destroyed when nothing awaits one of its calls any more; a lock that is
/// then still held, or asked for by a coroutine that was destroyed, is given up in the background.
class Lock {
 public:
  /// `listener` may be null; it outlives the lock.
  Lock(LockManager& manager, ResourceName name, LockListener* listener);
  ~Lock();
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;

  const ResourceName& name() const { return name_; }
  /// Empty: not held.
  std::optional<Mode> granted() const { return granted_; }
  /// An operation is under way; there is one at a time.
  bool busy() const { return busy_; }
  /// The value block as of the last grant that read it, or as written by this lock since.
  const LockValue& value() const { return value_; }

  /// Asks for a mode: a new lock if none is held, else a conversion. With flags.value, a conversion from PW or EX that
  /// does not raise the mode writes `written`.
  /// Errors: EAGAIN (no_queue), EDEADLK (the granted mode stays), ECANCELED, ENOLCK, EBUSY, EINVAL, ESHUTDOWN. On
  /// success `demoted` says that the former mode was lost on the way (flags.demote_on_deadlock).
  struct Granted {
    bool demoted = false;
  };
  Task<Result<Granted>> acquire(Mode mode, LockFlags flags = {}, ValueBytes written = {});
  /// Gives the lock up. With flags.value a holder of PW or EX writes `written`.
  Task<Result<>> release(LockFlags flags = {}, ValueBytes written = {});
  /// Ends an acquire() that waits, with ECANCELED, unless it is granted first.
  void cancel();

 private:
  friend class LockManager;
  Task<Outcome> finished();
  void ended(const Outcome& outcome);

  LockManager& manager_;
  ResourceName name_;
  LockListener* listener_;
  LockId id_{};
  std::optional<Mode> granted_;
  LockValue value_;
  bool busy_ = false;
  std::optional<Completion<Outcome>> completion_;
};

}  // namespace corral::dlm
