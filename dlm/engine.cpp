// The owner's side: the node's own locks, and the answers to them.
#include "dlm/engine.h"

#include <algorithm>

#include "base/check.h"

namespace corral::dlm {

Engine::Engine(Member self, const Clock& clock, Limits limits)
    : self_(self), clock_(clock), limits_(limits), ranges_(*this, clock, limits.ranges_per_file) {
  CHECK_INVARIANT(self.node.value < kNodesMax);
}

Engine::~Engine() {
  in_order_.clear();
  unused_.clear();
  for (auto& [name, resource] : resources_) {
    resource.owned.clear();
    if (resource.queue) abandon_queue(resource);
  }
}

bool Engine::Resource::holds_granted() const {
  return std::ranges::any_of(owned, [](const OwnedLock& lock) { return lock.granted.has_value(); });
}

Engine::OwnedLock* Engine::find_owned(LockId id) {
  auto found = owned_.find(id);
  return found == owned_.end() ? nullptr : &found->second;
}

Engine::Resource* Engine::find_resource(const ResourceName& name) {
  auto found = resources_.find(name);
  return found == resources_.end() ? nullptr : &found->second;
}

/// Finds or makes it. Whoever calls gives it a lock, or release_if_unused().
Engine::Resource& Engine::use_resource(const ResourceName& name) {
  auto [found, added] = resources_.try_emplace(name);
  Resource& resource = found->second;
  if (added) {
    resource.name = name;
    in_order_.push_back(resource);
  }
  mark_used(resource);
  return resource;
}

void Engine::mark_used(Resource& resource) {
  if (resource.unused_linked()) unused_.erase(unused_.iterator_to(resource));
}

Result<LockId> Engine::lock(const ResourceName& name, Mode mode, LockFlags flags) {
  if (out_of_cluster()) return fail(ESHUTDOWN);
  if (flags.expedite && mode != Mode::null) return fail(EINVAL, "expedite is for NL locks");
  if (flags.queue_convert || flags.demote_on_deadlock) return fail(EINVAL, "a new lock cannot have conversion flags");
  if (owned_.size() >= limits_.locks) return fail(ENOLCK, "this node has {} locks already", owned_.size());
  Resource& resource = use_resource(name);
  const LockId id(next_lock_++);
  OwnedLock& lock = owned_[id];
  lock.id = id;
  lock.resource = &resource;
  resource.owned.push_back(lock);
  begin(lock, Operation::request, mode, flags, false);
  drain_own();
  return id;
}

Result<> Engine::convert(LockId id, Mode mode, LockFlags flags, const std::array<std::byte, kLockValueBytes>& value) {
  if (out_of_cluster()) return fail(ESHUTDOWN);
  OwnedLock* lock = find_owned(id);
  if (lock == nullptr || flags.expedite) return fail(EINVAL);
  if (lock->pending.operation != Operation::none) return fail(EBUSY);
  CHECK_INVARIANT(lock->granted.has_value());
  const bool written = write_value(*lock, mode, flags, value);
  begin(*lock, Operation::convert, mode, flags, written);
  drain_own();
  return {};
}

Result<> Engine::unlock(LockId id, LockFlags flags, const std::array<std::byte, kLockValueBytes>& value) {
  if (out_of_cluster()) return fail(ESHUTDOWN);
  OwnedLock* lock = find_owned(id);
  if (lock == nullptr) return fail(EINVAL);
  if (lock->pending.operation != Operation::none) return fail(EBUSY);
  const bool written = write_value(*lock, std::nullopt, flags, value);
  begin(*lock, Operation::unlock, Mode::null, flags, written);
  drain_own();
  return {};
}

Result<> Engine::cancel(LockId id) {
  OwnedLock* lock = find_owned(id);
  if (lock == nullptr) return fail(EINVAL);
  Pending& pending = lock->pending;
  // A down-conversion waits for nobody, and its value is written already.
  const bool cancellable =
      pending.operation == Operation::request ||
      (pending.operation == Operation::convert && !is_down_conversion(*lock->granted, pending.mode));
  if (!cancellable || pending.cancel) return {};
  // What no master has seen ends here; the rest is the master's to say.
  if (!pending.ever_sent && pending.progress == Progress::unsent) {
    complete(*lock, ECANCELED);
    return {};
  }
  pending.cancel = true;
  if (pending.progress == Progress::queued) post(*lock->resource->master, Cancel{id});
  drain_own();
  return {};
}

std::uint64_t Engine::begin_range(const ResourceName& name, RangeAction action, const HeldRange& wanted) {
  const std::uint64_t operation = ranges_.begin(name, action, wanted);
  drain_own();
  return operation;
}

void Engine::cancel_range(std::uint64_t operation) {
  ranges_.cancel(operation);
  drain_own();
}

void Engine::end_range_deadlock(std::uint64_t operation, const std::set<std::uint64_t>& not_of_processes) {
  ranges_.end_deadlock(operation, not_of_processes);
  drain_own();
}

void Engine::begin(OwnedLock& lock, Operation operation, Mode mode, LockFlags flags, bool value_written) {
  lock.pending = {};
  lock.pending.operation = operation;
  lock.pending.mode = mode;
  lock.pending.flags = flags;
  lock.pending.value_written = value_written;
  lock.pending.order = next_order_++;
  lock.pending.since = clock_.now();
  submit(lock);
}

/// The owner's copy becomes the newer one at once; the operation takes it to the master. False: this one writes
/// nothing.
bool Engine::write_value(OwnedLock& lock, std::optional<Mode> to, LockFlags flags,
                         const std::array<std::byte, kLockValueBytes>& value) {
  if (!flags.value || value_transfer(lock.granted, to) != ValueTransfer::write) return false;
  lock.value.bytes = value;
  lock.value.valid = true;
  ++lock.value.sequence;
  return true;
}

/// Sends the operation on its way, or leaves it unsent: during a recovery, and while the master is being asked for.
void Engine::submit(OwnedLock& lock) {
  CHECK_INVARIANT(lock.pending.operation != Operation::none && lock.pending.progress == Progress::unsent);
  if (!running()) return;
  Resource& resource = *lock.resource;
  if (resource.master) {
    transmit(lock, *resource.master);
    return;
  }
  CHECK_INVARIANT(lock.pending.operation == Operation::request);
  if (resource.asking) return;
  resource.asking = true;
  transmit(lock, directory_node(view_, resource.name));
}

void Engine::submit_unsent(Resource& resource) {
  std::vector<OwnedLock*> unsent;
  for (OwnedLock& lock : resource.owned) {
    if (lock.pending.operation != Operation::none && lock.pending.progress == Progress::unsent) unsent.push_back(&lock);
  }
  submit_in_order(std::move(unsent));
}

void Engine::submit_in_order(std::vector<OwnedLock*> locks) {
  std::ranges::sort(locks, {}, [](const OwnedLock* lock) { return lock->pending.order; });
  for (OwnedLock* lock : locks)
    submit(*lock);
}

void Engine::transmit(OwnedLock& lock, Member to) {
  Pending& pending = lock.pending;
  pending.sent_to = to;
  if (to == self_) {
    ++counters_.local_operations;
  } else {
    Peer& peer = peers_.at(to.node);
    if (peer.in_flight >= limits_.operations_in_flight) {
      pending.progress = Progress::backlogged;
      peer.backlog.push_back(lock.id);
      return;
    }
    ++peer.in_flight;
    ++counters_.remote_operations;
  }
  pending.progress = Progress::sent;
  pending.ever_sent = true;
  switch (pending.operation) {
    case Operation::request:
      post(to, Request{self_, lock.id, pending.mode, pending.flags, 0, lock.resource->name});
      break;
    case Operation::convert:
      post(to, Convert{lock.id, pending.mode, pending.flags, pending.value_written, lock.value});
      break;
    case Operation::unlock:
      post(to, Unlock{lock.id, pending.value_written, lock.value});
      break;
    case Operation::none:
      CHECK_INVARIANT(false);
  }
}

/// The first answer to what was sent: there is room for another operation.
void Engine::answered(OwnedLock& lock) {
  if (lock.pending.progress != Progress::sent) return;
  lock.pending.progress = Progress::queued;
  if (lock.pending.sent_to == self_) return;
  --peers_.at(lock.pending.sent_to.node).in_flight;
  pump_backlog(lock.pending.sent_to.node);
}

void Engine::pump_backlog(NodeId node) {
  Peer& peer = peers_.at(node);
  while (!peer.backlog.empty() && peer.in_flight < limits_.operations_in_flight) {
    OwnedLock* lock = find_owned(peer.backlog.front());
    peer.backlog.pop_front();
    CHECK_INVARIANT(lock != nullptr && lock->pending.progress == Progress::backlogged);
    transmit(*lock, lock->pending.sent_to);
  }
}

void Engine::complete(OwnedLock& lock, int error) {
  actions_.emplace_back(CompleteAction{lock.id, {error, lock.granted, lock.pending.demoted, lock.value}});
  if (lock.granted) {
    lock.pending = {};
  } else {
    drop_owned(lock);
  }
}

void Engine::drop_owned(OwnedLock& lock) {
  Resource& resource = *lock.resource;
  resource.owned.erase(resource.owned.iterator_to(lock));
  owned_.erase(lock.id);
  release_if_unused(resource);
}

void Engine::learn_master(Resource& resource, Member master) {
  if (!resource.queue) resource.master = master;
  resource.asking = false;
  submit_unsent(resource);
}

void Engine::handle(Member from, Reply& reply) {
  OwnedLock* lock = find_owned(reply.lock);
  const bool expected = lock != nullptr && lock->pending.operation != Operation::none &&
                        (lock->pending.progress == Progress::sent || lock->pending.progress == Progress::queued);
  if (!expected) return fault(from, "answers an operation that was not sent");
  const Operation operation = lock->pending.operation;
  if (operation != Operation::request && lock->pending.sent_to != from)
    return fault(from, "answers in place of the master");
  if (operation == Operation::request && lock->resource->queue && from != self_)
    return fault(from, "answers as the master, which is this node");
  const bool unlocks = operation == Operation::unlock;
  if (unlocks != (reply.code == ReplyCode::unlocked)) return fault(from, "gives an answer of another operation");
  answered(*lock);
  if (operation == Operation::request) learn_master(*lock->resource, from);
  lock->pending.demoted |= reply.demoted;
  if (reply.code == ReplyCode::queued) {
    if (operation == Operation::convert) lock->granted = reply.mode;
    if (lock->pending.cancel) post(from, Cancel{lock->id});
    return;
  }
  if (reply.code == ReplyCode::granted) return finish_granted(*lock, reply);
  if (operation == Operation::convert) {
    lock->granted = reply.mode;
  } else {
    lock->granted.reset();
  }
  const int error = reply.code == ReplyCode::would_block ? EAGAIN
                    : reply.code == ReplyCode::deadlock  ? EDEADLK
                    : reply.code == ReplyCode::cancelled ? ECANCELED
                    : reply.code == ReplyCode::no_room   ? ENOLCK
                                                         : 0;
  complete(*lock, error);
}

void Engine::finish_granted(OwnedLock& lock, const Reply& reply) {
  if (value_transfer(lock.granted, reply.mode) == ValueTransfer::read) lock.value = reply.value;
  lock.granted = reply.mode;
  complete(lock, 0);
}

void Engine::handle(Member, Blocking& blocking) {
  OwnedLock* lock = find_owned(blocking.lock);
  // The lock may be on its way out.
  if (lock == nullptr || !lock->granted || lock->pending.operation == Operation::unlock) return;
  if (!compatible(*lock->granted, blocking.mode)) actions_.emplace_back(BlockingAction{lock->id, blocking.mode});
}

void Engine::handle(Member from, YouAreMaster& appointment) {
  OwnedLock* lock = find_owned(appointment.lock);
  const bool expected = lock != nullptr && lock->resource->name == appointment.name &&
                        lock->pending.operation == Operation::request && lock->pending.progress == Progress::sent;
  if (!expected) return fault(from, "appoints this node master of what it did not ask for");
  Resource& resource = *lock->resource;
  if (!resource.queue) {
    const bool mastered_elsewhere = std::ranges::any_of(
        resource.owned, [](const OwnedLock& other) { return other.granted.has_value() && !other.leaving(); });
    if (mastered_elsewhere) return fault(from, "appoints this node master of what another masters");
    become_master(resource);
  }
  answered(*lock);
  lock->pending.progress = Progress::unsent;
  resource.asking = false;
  submit_unsent(resource);
}

std::optional<Member> Engine::master_of(const ResourceName& name) const {
  auto found = resources_.find(name);
  return found == resources_.end() ? std::nullopt : found->second.master;
}

bool Engine::blocked(const ResourceName& name) const {
  auto found = resources_.find(name);
  return found != resources_.end() && found->second.queue && !found->second.queue->blocked_by().empty();
}

/// The way of every message: to a peer as an action, to this node itself through a queue of its own that is emptied
/// before control returns to the caller.
void Engine::post(Member to, Message message) {
  if (to == self_) {
    own_messages_.push_back(message);
  } else {
    actions_.emplace_back(SendAction{to, message});
  }
}

void Engine::drain_own() {
  for (;;) {
    while (!own_messages_.empty()) {
      Message message = own_messages_.front();
      own_messages_.pop_front();
      dispatch(self_, message);
    }
    // Only here, where nobody is in the middle of a walk over the resources.
    if (!running() || unused_.size() <= limits_.unused_resources) return;
    trim_unused();
  }
}

}  // namespace corral::dlm
