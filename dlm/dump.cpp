#include "dlm/dump.h"

#include <algorithm>

#include <fmt/format.h>

#include "dlm/engine.h"

namespace corral::dlm {

namespace {

/// Locks in the way of `waiting`: granted ones of an incompatible mode, and those ahead of it in its queue.
std::vector<LockOwner> in_the_way(const LockQueue& queue, const QueuedLock& waiting) {
  std::vector<LockOwner> owners;
  for (const LockQueue::List* list : {&queue.granted(), &queue.converting()}) {
    for (const QueuedLock& other : *list) {
      if (&other != &waiting && !compatible(other.granted, waiting.requested)) owners.push_back(other.owner);
    }
  }
  auto add_those_ahead = [&](const LockQueue::List& list) {
    for (const QueuedLock& other : list) {
      if (&other == &waiting) return;
      if (std::ranges::find(owners, other.owner) == owners.end()) owners.push_back(other.owner);
    }
  };
  add_those_ahead(queue.converting());
  if (waiting.state == QueuedLock::State::waiting) add_those_ahead(queue.waiting());
  return owners;
}

void dump_queue(const LockQueue& queue, Time now, DumpedResource& into) {
  into.blocked_by.assign(queue.blocked_by().begin(), queue.blocked_by().end());
  into.value = queue.value();
  for (const LockQueue::List* list : {&queue.granted(), &queue.converting(), &queue.waiting()}) {
    for (const QueuedLock& lock : *list) {
      DumpedLock dumped{lock.owner, {}, {}, now - lock.since, {}};
      if (lock.state != QueuedLock::State::waiting) dumped.granted = lock.granted;
      if (lock.state != QueuedLock::State::granted) {
        dumped.requested = lock.requested;
        dumped.waits_for = in_the_way(queue, lock);
      }
      into.locks.push_back(std::move(dumped));
    }
  }
}

void dump_ranges(const RangeLocks::File& file, Time now, DumpedResource& into) {
  for (const HeldRange& held : file.table.held())
    into.ranges.push_back({held, false, {}, {}});
  for (const RangeLocks::WaitingRange& waiting : file.waiting)
    into.ranges.push_back({waiting.wanted, true, now - waiting.since, file.table.conflicting_owners(waiting.wanted)});
}

std::string milliseconds(Duration duration) {
  return fmt::format("{} ms", std::chrono::duration_cast<std::chrono::milliseconds>(duration).count());
}

std::string describe(const LockOwner& owner) {
  return fmt::format("{}.{}", owner.node.node.value, owner.lock.value);
}

std::string describe(const DumpedLock& lock) {
  std::string line = fmt::format("  lock {}:", describe(lock.owner));
  if (lock.granted) line += fmt::format(" granted {}", name(*lock.granted));
  if (lock.requested)
    line += fmt::format(" {} {}", lock.granted ? "converting to" : "waiting for", name(*lock.requested));
  line += fmt::format(" for {}", milliseconds(lock.since));
  for (std::size_t i = 0; i < lock.waits_for.size(); ++i)
    line += fmt::format("{}{}", i == 0 ? ", behind " : " ", describe(lock.waits_for[i]));
  return line;
}

std::string describe(const DumpedRange& dumped) {
  const HeldRange& held = dumped.range;
  std::string line = fmt::format("  range {}-{} {}: node {} process {} owner {:x}", held.range.first, held.range.last,
                                 held.mode == RangeMode::write ? "write" : "read", held.owner.node.node.value,
                                 held.process, held.owner.id);
  if (dumped.waiting) line += fmt::format(" waiting for {}", milliseconds(dumped.since));
  for (std::size_t i = 0; i < dumped.waits_for.size(); ++i)
    line += fmt::format("{}node {} owner {:x}", i == 0 ? ", behind " : ", ", dumped.waits_for[i].node.node.value,
                        dumped.waits_for[i].id);
  return line;
}

}  // namespace

std::string Dump::text() const {
  std::string text = fmt::format("lock manager of {}, view {} with {} members, {}\n", self.describe(),
                                 view.number.value, view.members.size(), state);
  for (NodeId node : unrecovered)
    text += fmt::format("journal of node {} has to be replayed\n", node.value);
  for (const DumpedResource& resource : resources) {
    text += resource.name.describe();
    text += resource.master ? fmt::format(" mastered by node {}", resource.master->node.value) : " master not known";
    if (resource.master == self)
      text += fmt::format(", value {}{}", resource.value.sequence, resource.value.valid ? "" : " (not valid)");
    for (NodeId node : resource.blocked_by)
      text += fmt::format(", blocked until the journal of node {} is replayed", node.value);
    text += '\n';
    for (const DumpedLock& lock : resource.locks)
      text += describe(lock) + '\n';
    for (const DumpedRange& range : resource.ranges)
      text += describe(range) + '\n';
  }
  return text;
}

std::string Engine::describe_state() const {
  auto waiting_for = [this](bool Peer::* flag, std::string_view what) {
    std::string text = fmt::format("recovering, waiting for {} of", what);
    for (const auto& [node, peer] : peers_) {
      if (!(peer.*flag)) text += fmt::format(" node {}", node.value);
    }
    return text;
  };
  switch (phase_) {
    case Step::no_view:
      return "not a member yet";
    case Step::hello:
      return waiting_for(&Peer::hello, "the first message");
    case Step::registering:
      return waiting_for(&Peer::registered, "the registrations");
    case Step::finding:
      return fmt::format("recovering, waiting for the masters of {} resources", finding_);
    case Step::reporting:
      return waiting_for(&Peer::reported, "the reports");
    case Step::running:
      return "running";
    case Step::out:
      break;
  }
  return "out of the cluster";
}

DumpedLock Engine::dump_owned(const OwnedLock& lock) const {
  DumpedLock dumped{{self_, lock.id}, lock.granted, {}, {}, {}};
  if (lock.pending.operation == Operation::none) return dumped;
  dumped.requested = lock.pending.mode;
  dumped.since = clock_.now() - lock.pending.since;
  return dumped;
}

Dump Engine::dump(DumpScope scope) const {
  Dump dump{self_, view_, describe_state(), deaths_.unrecovered(), {}};
  for (const Resource& resource : in_order_) {
    DumpedResource dumped;
    dumped.name = resource.name;
    dumped.master = resource.master;
    if (resource.queue) dump_queue(*resource.queue, clock_.now(), dumped);
    for (const OwnedLock& lock : resource.owned) {
      // Those that have not come to the master's queue yet stand at its end.
      if (!resource.queue || !queued_.contains({self_, lock.id})) dumped.locks.push_back(dump_owned(lock));
    }
    auto file = ranges_.mastered().find(resource.name);
    if (file != ranges_.mastered().end()) dump_ranges(file->second, clock_.now(), dumped);
    const bool waited_for =
        std::ranges::any_of(dumped.locks, [](const DumpedLock& lock) { return lock.requested.has_value(); }) ||
        std::ranges::any_of(dumped.ranges, &DumpedRange::waiting);
    if (scope == DumpScope::all || waited_for) dump.resources.push_back(std::move(dumped));
  }
  return dump;
}

}  // namespace corral::dlm
