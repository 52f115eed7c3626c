/// The locks on one resource as its master keeps them: granted, converting, waiting, and the rules by which one comes
/// after the other. Synchronous and without I/O: operations in, events out.
///
/// Rules (those of the VMS lock manager):
/// - A new lock is granted at once if its mode is compatible with every granted mode and nothing converts or waits.
/// - A conversion is granted at once if the new mode is compatible with all other granted modes; with queue_convert
/// only
///   if no other conversion waits. A down-conversion is always granted.
/// - Whatever is not granted waits, in order of arrival; conversions come before new locks. A lock that converts keeps
///   its granted mode.
/// - A conversion that would wait for one that waits for it is a deadlock: refused, or the lock is demoted to NL.
/// - Holders in the way of something that waits are told once per mode that is asked of them.
///
/// While dead nodes whose journals are not replayed may have changed what the resource protects, it is blocked: nothing
/// but NL, down-conversions and requests marked during_recovery is granted. A no_queue request is refused, or, marked
/// after_recovery, waits until the resource is blocked no more, to be granted or refused then.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <vector>

#include <boost/intrusive/list.hpp>

#include "base/clock.h"
#include "dlm/message.h"
#include "dlm/types.h"

namespace corral::dlm {

/// A lock at its master. Owned by the engine, linked in one of the lists of one queue.
struct QueuedLock : boost::intrusive::list_base_hook<> {
  enum class State : std::uint8_t { granted, converting, waiting };

  explicit QueuedLock(LockOwner lock_owner) : owner(lock_owner) {}
  LockOwner owner;
  State state = State::waiting;
  Mode granted = Mode::null;    ///< where state is not waiting
  Mode requested = Mode::null;  ///< where state is not granted
  LockFlags flags;              ///< of the request
  Mode told = Mode::null;       ///< the strongest mode that its owner was told to be in the way of
  bool confirmed = true;        ///< by its owner, in the present view
  bool demoted = false;         ///< by the conversion that waits
  Time since{};                 ///< in this state
};

/// What the master has to tell an owner.
struct QueueEvent {
  enum class Kind : std::uint8_t { reply, blocking };
  Kind kind;
  LockOwner owner;
  ReplyCode code = ReplyCode::granted;
  Mode mode = Mode::null;
  bool demoted = false;
};

class LockQueue {
 public:
  using List = boost::intrusive::list<QueuedLock>;
  using Events = std::vector<QueueEvent>;

  LockQueue() = default;
  LockQueue(const LockQueue&) = delete;
  LockQueue& operator=(const LockQueue&) = delete;
  ~LockQueue();

  bool empty() const { return granted_.empty() && converting_.empty() && waiting_.empty(); }
  std::size_t size() const { return granted_.size() + converting_.size() + waiting_.size(); }
  const List& granted() const { return granted_; }
  const List& converting() const { return converting_; }
  const List& waiting() const { return waiting_; }

  /// A new lock, in no queue yet. After a refusal it is in none again.
  void request(QueuedLock& lock, Mode mode, LockFlags flags, Time now, Events& events);
  /// The lock is granted and converts nothing.
  void convert(QueuedLock& lock, Mode mode, LockFlags flags, Time now, Events& events);
  /// The lock leaves the resource, whatever its state; its owner is answered.
  void unlock(QueuedLock& lock, Time now, Events& events);
  /// Ends what waits: a conversion goes back to its granted mode, a new lock leaves the resource (true). No event if
  /// nothing waited.
  bool cancel(QueuedLock& lock, Time now, Events& events);

  /// The value block, and the rule that the higher sequence is the newer.
  const LockValue& value() const { return value_; }
  void write_value(const LockValue& value);
  void invalidate_value() { value_.valid = false; }

  /// Recovery. Nothing is granted and nobody told until resume().
  /// All that waits leaves: new locks are in no queue (and handed to `gone`), conversions are back in their granted
  /// mode.
  void drop_waiting(const std::function<void(QueuedLock&)>& gone);
  /// A granted lock leaves without a word; the resource stays as it is.
  void remove(QueuedLock& lock);
  /// Is the mode that an owner says it has compatible with what others have?
  bool admits_report(const QueuedLock& lock, Mode mode) const { return !conflicts(lock, mode); }
  /// A lock that its owner says it has. The lock is in no queue, or granted here.
  void restore(QueuedLock& lock, Mode mode, Time now);
  /// True if every mode in which the dead may have written is excluded by what survivors hold.
  bool excludes_writers() const;
  void block_for(NodeId dead) { blocked_by_.insert(dead); }
  void unblock(NodeId recovered) { blocked_by_.erase(recovered); }
  void unblock() { blocked_by_.clear(); }
  const std::set<NodeId>& blocked_by() const { return blocked_by_; }
  /// Grants what can be, and tells every holder anew who is in the way.
  void resume(Time now, Events& events);

 private:
  List& list_of(QueuedLock::State state);
  bool conflicts(const QueuedLock& lock, Mode mode) const;
  bool admits(const QueuedLock& lock, Mode mode, LockFlags flags, bool conversion) const;
  bool can_grant_now(const QueuedLock& lock, Mode mode, LockFlags flags, bool conversion) const;
  bool can_grant_queued(const QueuedLock& lock) const;
  bool deadlocks(const QueuedLock& lock) const;
  void refuse(QueuedLock& lock, Events& events);
  void refuse_attempts(Events& events);
  void convert_in_queue(QueuedLock& lock, Time now, Events& events);
  void grant(QueuedLock& lock, Time now, Events& events);
  void enter(QueuedLock& lock, QueuedLock::State state, Time now);
  void leave(QueuedLock& lock);
  void grant_pending(Time now, Events& events);
  bool grant_first_possible(List& list, Time now, Events& events);
  void tell_holders(Events& events);
  void tell_holders_of(Mode mode, const QueuedLock& asking, Events& events);

  List granted_;
  List converting_;
  List waiting_;
  std::array<std::uint32_t, kModes> granted_in_{};    ///< locks per granted mode, converting ones too
  std::array<std::uint32_t, kModes> requested_in_{};  ///< locks per mode asked for, converting and waiting
  std::size_t unordered_ = 0;                         ///< converting and waiting ones that may pass others
  std::set<NodeId> blocked_by_;
  LockValue value_;
};

}  // namespace corral::dlm
