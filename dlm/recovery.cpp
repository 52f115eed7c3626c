// Changes of view: stop, drop the dead, rebuild the directory, find masters anew, rebuild the queues, go on.
#include <algorithm>

#include "base/check.h"
#include "base/planted_bug.h"
#include "dlm/engine.h"

namespace corral::dlm {

void Engine::enter_view(const View& view) {
  if (out_of_cluster()) return;
  CHECK_INVARIANT(view.well_formed() && view.number > view_.number);
  if (!view.contains(self_)) return go_out();
  stop_for(view);
  for (const Member& member : view.members) {
    if (member == self_) continue;
    auto early = early_hellos_.find(member);
    peers_[member.node].hello = early != early_hellos_.end() && early->second == view.number;
    post(member, Hello{});
  }
  std::erase_if(early_hellos_, [&](const auto& early) { return early.second <= view.number; });
  step_on();
  drain_own();
}

/// Leaves the old view: the dead are noted, nothing is in flight any more.
void Engine::stop_for(const View& view) {
  CHECK_INVARIANT(own_messages_.empty());
  for (const Member& member : view.members)
    if (!planted(PlantedBug::mistaken_for_recovered)) deaths_.lives(member);
  for (const Member& member : view.unrecovered)
    deaths_.died(member);
  phase_ = Step::hello;
  peers_.clear();
  held_.clear();
  finding_ = 0;
  directory_.clear();
  ranges_.stop();
  view_ = view;
  for (auto at = in_order_.begin(); at != in_order_.end();) {
    Resource& resource = *at++;
    stop_resource(resource);
    const bool useless = resource.owned.empty() && !resource.queue;
    if (useless) erase_resource(resource);
  }
}

void Engine::stop_resource(Resource& resource) {
  reset_operations(resource);
  if (resource.lost) {
    // Who masters it was about to be agreed; the next to agree starts from nothing, and as carefully.
    abandon_queue(resource);
    resource.master.reset();
  } else if (resource.queue) {
    drop_dead_and_doubt_others(resource);
  } else if (!resource.holds_granted()) {
    resource.master.reset();
  } else if (!view_.contains(*resource.master)) {
    resource.master.reset();
    resource.lost = true;
  }
  resource.value_certain = false;
  if (resource.lost && !resource.holds_granted()) resource.lost = false;
  release_if_unused(resource);
}

void Engine::reset_operations(Resource& resource) {
  resource.asking = false;
  for (OwnedLock& lock : resource.owned)
    lock.pending.progress = Progress::unsent;
}

/// Of a resource mastered here: what the dead may have written under blocks it, what the living have is theirs to say.
void Engine::drop_dead_and_doubt_others(Resource& resource) {
  LockQueue& queue = *resource.queue;
  drop_waiting(queue);
  std::vector<LockOwner> dead;
  for (const QueuedLock& lock : queue.granted()) {
    find_queued(lock.owner)->lock.confirmed = lock.owner.node == self_;
    if (view_.contains(lock.owner.node)) continue;
    dead.push_back(lock.owner);
    if (value_transfer(lock.granted, std::nullopt) == ValueTransfer::write) queue.invalidate_value();
    // Its journal may have been replayed before this node came to the view.
    const NodeId node = lock.owner.node.node;
    if (writes(lock.granted) && deaths_.unrecovered(node)) queue.block_for(node);
  }
  for (const LockOwner& owner : dead)
    drop_granted(queue, owner);
}

void Engine::abandon_queue(Resource& resource) {
  if (!resource.queue) return;
  LockQueue& queue = *resource.queue;
  drop_waiting(queue);
  while (!queue.granted().empty()) {
    const LockOwner owner = queue.granted().front().owner;
    drop_granted(queue, owner);
  }
  resource.queue.reset();
}

void Engine::connected(Member peer) {
  // What was said while there was no connection is lost; to say it twice does no harm.
  if (phase_ == Step::hello && peer != self_ && view_.contains(peer)) post(peer, Hello{});
}

bool Engine::all_peers(bool Peer::* flag) const {
  return std::ranges::all_of(peers_, [flag](const auto& entry) { return entry.second.*flag; });
}

/// Goes through the steps as far as the peers allow.
void Engine::step_on() {
  for (;;) {
    // What this node tells itself counts before what others are told to be done.
    drain_own();
    if (phase_ == Step::hello && all_peers(&Peer::hello)) {
      start_registering();
    } else if (phase_ == Step::registering && all_peers(&Peer::registered)) {
      start_finding();
    } else if (phase_ == Step::finding && finding_ == 0) {
      start_reporting();
    } else if (phase_ == Step::reporting && all_peers(&Peer::reported)) {
      start_running();
    } else {
      return;
    }
  }
}

/// The next step; messages that came too early for the last are looked at again.
void Engine::enter(Step step) {
  phase_ = step;
  release_held();
}

void Engine::start_registering() {
  unblock_recovered();
  for (const Resource& resource : in_order_) {
    if (resource.queue) post(directory_node(view_, resource.name), Register{resource.name});
  }
  for (const auto& [node, peer] : peers_)
    post(*view_.find(node), PhaseDone{Phase::registered});
  enter(Step::registering);
}

void Engine::start_finding() {
  for (const Resource& resource : in_order_) {
    if (!resource.lost) continue;
    ++finding_;
    post(directory_node(view_, resource.name), FindMaster{resource.name});
  }
  enter(Step::finding);
}

void Engine::start_reporting() {
  enter(Step::reporting);
  for (Resource& resource : in_order_) {
    for (OwnedLock& lock : resource.owned) {
      const bool known_here = resource.queue && queued_.contains({self_, lock.id});
      if (lock.granted && !known_here && !planted(PlantedBug::unreported_locks))
        post(*resource.master, Report{lock.id, surely_held(lock), lock.leaving(), lock.value, resource.name});
    }
  }
  ranges_.report();
  drain_own();
  for (const auto& [node, peer] : peers_)
    post(*view_.find(node), PhaseDone{Phase::reported});
}

/// An operation under way may have been done by the master, and others been told so: no more than what it leaves may be
/// claimed, and a conversion goes on from there.
Mode Engine::surely_held(OwnedLock& lock) {
  CHECK_INVARIANT(lock.granted.has_value());
  Pending& pending = lock.pending;
  if (!pending.ever_sent) return *lock.granted;
  if (pending.operation == Operation::unlock) return Mode::null;
  if (pending.operation != Operation::convert) return *lock.granted;
  const bool may_be_demoted = pending.flags.demote_on_deadlock && !is_down_conversion(*lock.granted, pending.mode);
  if (may_be_demoted && *lock.granted != Mode::null) pending.demoted = true;
  lock.granted = may_be_demoted ? Mode::null : meet(*lock.granted, pending.mode);
  return *lock.granted;
}

void Engine::start_running() {
  for (Resource& resource : in_order_)
    finish_resource(resource);
  phase_ = Step::running;
  actions_.emplace_back(RunningAction{view_.number});
  resubmit_all();
  ranges_.resume();
  drain_own();
  release_held();
}

void Engine::finish_resource(Resource& resource) {
  if (resource.queue) {
    LockQueue& queue = *resource.queue;
    std::vector<LockOwner> unclaimed;
    for (const QueuedLock& lock : queue.granted()) {
      if (!lock.confirmed) unclaimed.push_back(lock.owner);
    }
    for (const LockOwner& owner : unclaimed)
      drop_granted(queue, owner);
    if (resource.lost && queue.excludes_writers()) queue.unblock();
    if (resource.lost && !resource.value_certain) queue.invalidate_value();
    LockQueue::Events events;
    queue.resume(clock_.now(), events);
    CHECK_INVARIANT(events.empty());
  }
  resource.lost = false;
  release_if_unused(resource);
}

void Engine::resubmit_all() {
  std::vector<OwnedLock*> unsent;
  for (Resource& resource : in_order_) {
    for (OwnedLock& lock : resource.owned) {
      if (lock.pending.operation != Operation::none) unsent.push_back(&lock);
    }
  }
  submit_in_order(std::move(unsent));
}

void Engine::recovered(Member member) {
  deaths_.recovered(member);
  unblock_recovered();
  drain_own();
}

void Engine::unblock_recovered() {
  for (Resource& resource : in_order_) {
    if (!resource.queue) continue;
    LockQueue& queue = *resource.queue;
    const std::set<NodeId> blocked_by = queue.blocked_by();
    bool changed = false;
    for (NodeId node : blocked_by) {
      if (deaths_.unrecovered(node)) continue;
      queue.unblock(node);
      changed = true;
    }
    if (!changed || !running()) continue;
    LockQueue::Events events;
    queue.resume(clock_.now(), events);
    tell_owners(resource, events);
    if (queue.blocked_by().empty()) ranges_.unblocked(resource.name);
  }
}

/// This node is no longer a member: whatever waits fails.
void Engine::go_out() {
  phase_ = Step::out;
  std::vector<LockId> waiting;
  for (Resource& resource : in_order_) {
    for (OwnedLock& lock : resource.owned) {
      if (lock.pending.operation != Operation::none) waiting.push_back(lock.id);
    }
  }
  for (LockId id : waiting)
    complete(*find_owned(id), ESHUTDOWN);
  ranges_.fail_all(ESHUTDOWN);
}

void Engine::handle(Member from, Hello&) {
  peers_.at(from.node).hello = true;
  step_on();
}

void Engine::handle(Member from, Register& entry) {
  if (directory_.find_or_appoint(entry.name, from) != from) fault(from, "masters a resource that has a master");
}

void Engine::handle(Member from, FindMaster& question) {
  post(from, MasterIs{directory_.find_or_appoint(question.name, from), question.name});
}

void Engine::handle(Member from, MasterIs& answer) {
  Resource* resource = find_resource(answer.name);
  const bool expected = phase_ == Step::finding && resource != nullptr && resource->lost && !resource->master;
  if (!expected || !view_.contains(answer.master)) return fault(from, "names a master that was not asked for");
  if (answer.master == self_) {
    become_master(*resource);
  } else {
    resource->master = answer.master;
  }
  --finding_;
  if (from != self_) step_on();
}

void Engine::handle(Member from, Report& report) {
  Resource* resource = find_resource(report.name);
  const bool mastered = resource != nullptr && resource->queue;
  if (report.leaving) {
    if (mastered) resource->queue->write_value(report.value);
    return;
  }
  if (!mastered) return fault(from, "reports a lock to a node that is not the master");
  const LockOwner owner{from, report.lock};
  auto [found, added] = queued_.try_emplace(owner, Queued{QueuedLock(owner), resource});
  if (!added && found->second.resource != resource) return fault(from, "reports a lock under another name");
  mark_used(*resource);
  LockQueue& queue = *resource->queue;
  if (!queue.admits_report(found->second.lock, report.mode)) fault(from, "reports a lock that excludes another's");
  queue.restore(found->second.lock, report.mode, clock_.now());
  queue.write_value(report.value);
  resource->value_certain |= report.mode > Mode::concurrent_read;
}

void Engine::handle(Member from, PhaseDone& done) {
  Peer& peer = peers_.at(from.node);
  (done.phase == Phase::registered ? peer.registered : peer.reported) = true;
  step_on();
}

void Engine::received(const FrameHeader& header, std::vector<Message> messages) {
  if (out_of_cluster() || header.from == self_) return;
  if (header.to != self_ || header.view < view_.number)
    return;  // meant for an earlier life, or said in an earlier view
  if (header.view > view_.number) return received_early(header, messages);
  if (!view_.contains(header.from)) return fault(header.from, "speaks in a view that it is not a member of");
  for (Message& message : messages) {
    dispatch(header.from, message);
    drain_own();
  }
}

/// Nobody can be further than hello in a view that this node has not entered.
void Engine::received_early(const FrameHeader& header, const std::vector<Message>& messages) {
  for (const Message& message : messages) {
    if (!std::holds_alternative<Hello>(message))
      return fault(header.from, "does not wait for this node to enter the view");
  }
  // One entry per node: an earlier life of it says no more.
  std::erase_if(early_hellos_, [&](const auto& early) { return early.first.node == header.from.node; });
  early_hellos_[header.from] = header.view;
}

Engine::Step Engine::usable_from(const Message& message) {
  if (std::holds_alternative<FindMaster>(message) || std::holds_alternative<MasterIs>(message)) return Step::finding;
  if (std::holds_alternative<Report>(message) || std::holds_alternative<RangeReport>(message)) return Step::reporting;
  const bool any_time = std::holds_alternative<Hello>(message) || std::holds_alternative<Register>(message) ||
                        std::holds_alternative<PhaseDone>(message);
  return any_time ? Step::hello : Step::running;
}

void Engine::dispatch(Member from, Message& message) {
  if (phase_ < usable_from(message)) {
    if (held_.size() >= limits_.held_messages) return fault(from, "is too far ahead in a recovery");
    held_.push_back({from, message});
    return;
  }
  std::visit([&](auto& body) { handle(from, body); }, message);
}

void Engine::release_held() {
  auto held = std::exchange(held_, {});
  for (Held& one : held) {
    dispatch(one.from, one.message);
    drain_own();
  }
}

void Engine::fault(Member from, std::string_view what) {
  actions_.emplace_back(FaultAction{fmt::format("lock manager: {} {}", from.describe(), what)});
}

// POSIX locks: the messages go to RangeLocks.

void Engine::handle(Member from, RangeRequest& request) {
  Resource* resource = find_resource(request.name);
  if (resource == nullptr || !resource->queue || !ranges_.handle(from, request))
    fault(from, "asks for a range of a file that is not mastered here, or for another node");
}

void Engine::handle(Member from, RangeCancel& cancel) {
  ranges_.handle(from, cancel);
}

void Engine::handle(Member from, RangeReply& reply) {
  if (!ranges_.handle(reply)) fault(from, "answers about a range that nobody asked for");
}

void Engine::handle(Member from, RangeReport& report) {
  Resource* resource = find_resource(report.name);
  if (resource == nullptr || !resource->queue || !ranges_.handle(from, report))
    fault(from, "reports a range that excludes another's, or of a file that is not mastered here");
}

}  // namespace corral::dlm
