#include "dlm/lock_queue.h"

#include <algorithm>

#include "base/check.h"
#include "base/planted_bug.h"

namespace corral::dlm {

using State = QueuedLock::State;

namespace {

bool may_pass_others(LockFlags flags) {
  return flags.no_order || flags.during_recovery;
}

}  // namespace

LockQueue::~LockQueue() {
  CHECK_INVARIANT(empty());
}

void LockQueue::request(QueuedLock& lock, Mode mode, LockFlags flags, Time now, Events& events) {
  CHECK_INVARIANT(!lock.is_linked());
  lock.requested = mode;
  lock.flags = flags;
  if (can_grant_now(lock, mode, flags, false)) {
    grant(lock, now, events);
    tell_holders(events);
    return;
  }
  if (flags.no_queue && (blocked_by_.empty() || !flags.after_recovery)) return refuse(lock, events);
  enter(lock, State::waiting, now);
  events.push_back({QueueEvent::Kind::reply, lock.owner, ReplyCode::queued});
  // no_order may pass what waits ahead of it.
  grant_pending(now, events);
  tell_holders(events);
}

/// A new lock that does not wait.
void LockQueue::refuse(QueuedLock& lock, Events& events) {
  if (lock.flags.no_queue_blocking) tell_holders_of(lock.requested, lock, events);
  events.push_back({QueueEvent::Kind::reply, lock.owner, ReplyCode::would_block});
}

/// Those that waited only for dead nodes to be recovered.
void LockQueue::refuse_attempts(Events& events) {
  for (auto at = waiting_.begin(); at != waiting_.end();) {
    QueuedLock& lock = *at++;
    if (!lock.flags.no_queue) continue;
    leave(lock);
    refuse(lock, events);
  }
}

void LockQueue::convert(QueuedLock& lock, Mode mode, LockFlags flags, Time now, Events& events) {
  CHECK_INVARIANT(lock.is_linked() && lock.state == State::granted);
  lock.requested = mode;
  lock.flags = flags;
  lock.demoted = false;
  if (can_grant_now(lock, mode, flags, true)) {
    leave(lock);
    grant(lock, now, events);
    grant_pending(now, events);
    tell_holders(events);
    return;
  }
  if (flags.no_queue) {
    if (flags.no_queue_blocking) tell_holders_of(mode, lock, events);
    events.push_back({QueueEvent::Kind::reply, lock.owner, ReplyCode::would_block, lock.granted});
    return;
  }
  if (deadlocks(lock)) {
    if (!flags.demote_on_deadlock) {
      events.push_back({QueueEvent::Kind::reply, lock.owner, ReplyCode::deadlock, lock.granted});
      return;
    }
    leave(lock);
    lock.granted = Mode::null;
    enter(lock, State::granted, now);
    lock.demoted = true;
    lock.requested = mode;
  }
  convert_in_queue(lock, now, events);
}

void LockQueue::convert_in_queue(QueuedLock& lock, Time now, Events& events) {
  leave(lock);
  enter(lock, State::converting, now);
  events.push_back({QueueEvent::Kind::reply, lock.owner, ReplyCode::queued, lock.granted, lock.demoted});
  // A demoted lock made room for those ahead of it.
  grant_pending(now, events);
  tell_holders(events);
}

void LockQueue::unlock(QueuedLock& lock, Time now, Events& events) {
  leave(lock);
  events.push_back({QueueEvent::Kind::reply, lock.owner, ReplyCode::unlocked});
  if (!planted(PlantedBug::lost_wakeup)) grant_pending(now, events);
  tell_holders(events);
}

bool LockQueue::cancel(QueuedLock& lock, Time now, Events& events) {
  if (lock.state == State::granted) return false;
  const bool gone = lock.state == State::waiting;
  leave(lock);
  if (!gone) enter(lock, State::granted, now);
  events.push_back({QueueEvent::Kind::reply, lock.owner, ReplyCode::cancelled, gone ? Mode::null : lock.granted,
                    !gone && lock.demoted});
  // What waited behind it may be first now.
  grant_pending(now, events);
  tell_holders(events);
  return gone;
}

void LockQueue::write_value(const LockValue& value) {
  if (value.sequence > value_.sequence) value_ = value;
}

void LockQueue::drop_waiting(const std::function<void(QueuedLock&)>& gone) {
  while (!converting_.empty()) {
    QueuedLock& lock = converting_.front();
    const Time since = lock.since;
    leave(lock);
    enter(lock, State::granted, since);
  }
  while (!waiting_.empty()) {
    QueuedLock& lock = waiting_.front();
    leave(lock);
    gone(lock);
  }
}

void LockQueue::remove(QueuedLock& lock) {
  CHECK_INVARIANT(lock.state == State::granted);
  leave(lock);
}

void LockQueue::restore(QueuedLock& lock, Mode mode, Time now) {
  if (lock.is_linked()) {
    CHECK_INVARIANT(lock.state == State::granted);
    leave(lock);
  }
  lock.granted = mode;
  lock.confirmed = true;
  enter(lock, State::granted, now);
}

bool LockQueue::excludes_writers() const {
  return std::ranges::none_of(kAllModes, [this](Mode writer) {
    return writes(writer) && std::ranges::all_of(kAllModes, [&](Mode held) {
             return granted_in_[index(held)] == 0 || compatible(held, writer);
           });
  });
}

void LockQueue::resume(Time now, Events& events) {
  for (List* list : {&granted_, &converting_}) {
    for (QueuedLock& lock : *list)
      lock.told = Mode::null;
  }
  grant_pending(now, events);
  if (blocked_by_.empty()) {
    refuse_attempts(events);
    grant_pending(now, events);
  }
  tell_holders(events);
}

bool LockQueue::conflicts(const QueuedLock& lock, Mode mode) const {
  for (Mode held : kAllModes) {
    const bool own = lock.is_linked() && lock.state != State::waiting && lock.granted == held;
    if (planted(PlantedBug::grant_early) && held == Mode::protected_read) continue;
    if (granted_in_[index(held)] > (own ? 1u : 0u) && !compatible(held, mode)) return true;
  }
  return false;
}

bool LockQueue::admits(const QueuedLock& lock, Mode mode, LockFlags flags, bool conversion) const {
  if (conflicts(lock, mode)) return false;
  const bool harmless = mode == Mode::null || (conversion && is_down_conversion(lock.granted, mode));
  const bool unblocked = blocked_by_.empty() || planted(PlantedBug::unblocked_dead);
  return unblocked || flags.during_recovery || harmless;
}

bool LockQueue::can_grant_now(const QueuedLock& lock, Mode mode, LockFlags flags, bool conversion) const {
  if (!admits(lock, mode, flags, conversion)) return false;
  if (may_pass_others(flags)) return true;
  if (conversion) return !flags.queue_convert || converting_.empty() || is_down_conversion(lock.granted, mode);
  if (flags.expedite && mode == Mode::null) return true;
  return converting_.empty() && waiting_.empty();
}

bool LockQueue::can_grant_queued(const QueuedLock& lock) const {
  const bool conversion = lock.state == State::converting;
  if (!admits(lock, lock.requested, lock.flags, conversion)) return false;
  if (may_pass_others(lock.flags)) return true;
  if (conversion) return &converting_.front() == &lock;
  return converting_.empty() && &waiting_.front() == &lock;
}

bool LockQueue::deadlocks(const QueuedLock& lock) const {
  // It would wait behind all of them, and one that waits for it to give up its granted mode never moves. That goes for
  // no_order too: what it waits for besides may be behind that one.
  return std::ranges::any_of(converting_,
                             [&](const QueuedLock& ahead) { return !compatible(lock.granted, ahead.requested); });
}

void LockQueue::grant(QueuedLock& lock, Time now, Events& events) {
  lock.granted = lock.requested;
  lock.told = Mode::null;
  enter(lock, State::granted, now);
  events.push_back({QueueEvent::Kind::reply, lock.owner, ReplyCode::granted, lock.granted, lock.demoted});
}

LockQueue::List& LockQueue::list_of(State state) {
  return state == State::granted ? granted_ : state == State::converting ? converting_ : waiting_;
}

void LockQueue::enter(QueuedLock& lock, State state, Time now) {
  lock.state = state;
  lock.since = now;
  if (state != State::waiting) ++granted_in_[index(lock.granted)];
  if (state != State::granted) {
    ++requested_in_[index(lock.requested)];
    if (may_pass_others(lock.flags)) ++unordered_;
  }
  list_of(state).push_back(lock);
}

void LockQueue::leave(QueuedLock& lock) {
  CHECK_INVARIANT(lock.is_linked());
  if (lock.state != State::waiting) --granted_in_[index(lock.granted)];
  if (lock.state != State::granted) {
    --requested_in_[index(lock.requested)];
    if (may_pass_others(lock.flags)) --unordered_;
  }
  List& list = list_of(lock.state);
  list.erase(list.iterator_to(lock));
}

void LockQueue::grant_pending(Time now, Events& events) {
  while (grant_first_possible(converting_, now, events)) {
  }
  while (grant_first_possible(waiting_, now, events)) {
  }
}

bool LockQueue::grant_first_possible(List& list, Time now, Events& events) {
  // All but the first are worth a look only if they may pass it.
  auto last = list.empty() || unordered_ > 0 ? list.end() : std::next(list.begin());
  auto found = std::find_if(list.begin(), last, [this](const QueuedLock& lock) { return can_grant_queued(lock); });
  if (found == last) return false;
  QueuedLock& lock = *found;
  leave(lock);
  grant(lock, now, events);
  return true;
}

void LockQueue::tell_holders(Events& events) {
  if ((converting_.empty() && waiting_.empty()) || planted(PlantedBug::silent_holders)) return;
  for (List* list : {&granted_, &converting_}) {
    for (QueuedLock& holder : *list) {
      for (std::size_t mode = kModes - 1; mode > index(holder.told); --mode) {
        const bool own = holder.state == State::converting && index(holder.requested) == mode;
        if (requested_in_[mode] <= (own ? 1u : 0u) || compatible(holder.granted, kAllModes[mode])) continue;
        holder.told = kAllModes[mode];
        events.push_back({QueueEvent::Kind::blocking, holder.owner, ReplyCode::granted, holder.told});
        break;
      }
    }
  }
}

void LockQueue::tell_holders_of(Mode mode, const QueuedLock& asking, Events& events) {
  for (List* list : {&granted_, &converting_}) {
    for (QueuedLock& holder : *list) {
      if (&holder == &asking || compatible(holder.granted, mode) || holder.told >= mode) continue;
      // Not remembered in `told`: the request does not wait, and the next one has to be heard as well.
      events.push_back({QueueEvent::Kind::blocking, holder.owner, ReplyCode::granted, mode});
    }
  }
}

}  // namespace corral::dlm
