#include "dlm/range_locks.h"

#include <algorithm>
#include <set>

#include "base/check.h"

namespace corral::dlm {

namespace {

/// The least that the owner holds from the moment that a master may have acted on the operation.
void weaken_for(RangeTable& table, HeldRange wanted) {
  if (table.has(wanted)) return;
  // A flock loses its old mode first.
  if (wanted.owner.kind == RangeOwnerKind::flock) wanted.mode = RangeMode::unlocked;
  table.weaken(wanted);
}

}  // namespace

std::uint64_t RangeLocks::begin(const ResourceName& name, RangeAction action, HeldRange wanted) {
  CHECK_INVARIANT(wanted.owner.node == port_.self() && wanted.range.first <= wanted.range.last);
  const std::uint64_t number = next_operation_++;
  Operation& operation = operations_[number];
  operation = {name, action, wanted};
  ++own_[name].operations;
  if (port_.running()) send(number, operation);
  return number;
}

void RangeLocks::send(std::uint64_t number, Operation& operation) {
  auto master = port_.master_of(operation.name);
  CHECK_INVARIANT(master.has_value());
  operation.sent = true;
  operation.ever_sent = true;
  port_.post(*master, RangeRequest{number, operation.action, operation.wanted, operation.name});
  if (operation.cancel) port_.post(*master, RangeCancel{number, operation.name});
}

void RangeLocks::cancel(std::uint64_t number) {
  auto found = operations_.find(number);
  if (found == operations_.end() || found->second.cancel) return;
  Operation& operation = found->second;
  operation.cancel = true;
  if (!operation.ever_sent) {
    finish(number, {EINTR, {}});
  } else if (operation.sent) {
    auto master = port_.master_of(operation.name);
    CHECK_INVARIANT(master.has_value());
    port_.post(*master, RangeCancel{number, operation.name});
  }
}

void RangeLocks::finish(std::uint64_t number, RangeOutcome outcome) {
  auto node = operations_.extract(number);
  CHECK_INVARIANT(!node.empty());
  const Operation& operation = node.mapped();
  OwnFile& file = own_.at(operation.name);
  if (operation.action != RangeAction::test) {
    if (outcome.error == 0) {
      file.held.set(operation.wanted);
    } else if (operation.ever_sent && operation.wanted.owner.kind == RangeOwnerKind::flock) {
      file.held.set({operation.wanted.owner, 0, RangeMode::unlocked, operation.wanted.range});
    }
  }
  --file.operations;
  if (file.operations == 0 && file.held.empty()) own_.erase(operation.name);
  port_.completed({number, outcome});
}

bool RangeLocks::handle(const RangeReply& reply) {
  auto found = operations_.find(reply.operation);
  if (found == operations_.end() || !found->second.sent) return false;
  Operation& operation = found->second;
  switch (reply.code) {
    case RangeCode::queued:
      operation.waiting = true;
      if (Search found_round = follow(reply.operation, {}); found_round.deadlock)
        port_.suspected({reply.operation, std::move(found_round.passed)});
      return true;
    case RangeCode::done:
      finish(reply.operation, {});
      return true;
    case RangeCode::conflict:
      if (operation.action == RangeAction::test) {
        finish(reply.operation, {0, reply.conflict});
      } else {
        finish(reply.operation, {EAGAIN, {}});
      }
      return true;
    case RangeCode::cancelled:
      finish(reply.operation, {operation.deadlocked ? EDEADLK : EINTR, {}});
      return true;
    case RangeCode::no_room:
      finish(reply.operation, {ENOLCK, {}});
      return true;
  }
  return false;
}

/// Who is waited for, directly and by those who are waited for, among the node's own; and whether that comes round.
RangeLocks::Search RangeLocks::follow(std::uint64_t number, const std::set<std::uint64_t>& leave_out) const {
  Search search;
  const Operation& start = operations_.at(number);
  const bool takes_part = start.action == RangeAction::set_or_wait && start.wanted.owner.kind == RangeOwnerKind::record;
  if (!takes_part || leave_out.contains(number)) return search;
  search.passed.insert(number);
  std::vector<const Operation*> to_follow = {&start};
  while (!to_follow.empty()) {
    const Operation& waits = *to_follow.back();
    to_follow.pop_back();
    auto file = own_.find(waits.name);
    if (file == own_.end()) continue;
    for (const RangeOwner& holder : file->second.held.conflicting_owners(waits.wanted)) {
      search.deadlock |= holder == start.wanted.owner;
      for (const auto& [other_number, other] : operations_) {
        const bool waiting = other.waiting && !other.cancel && other.action == RangeAction::set_or_wait;
        if (!waiting || other.wanted.owner != holder || leave_out.contains(other_number)) continue;
        if (search.passed.insert(other_number).second) to_follow.push_back(&other);
      }
    }
  }
  return search;
}

void RangeLocks::end_deadlock(std::uint64_t number, const std::set<std::uint64_t>& not_of_processes) {
  auto found = operations_.find(number);
  if (found == operations_.end() || !found->second.waiting || !follow(number, not_of_processes).deadlock) return;
  found->second.deadlocked = true;
  cancel(number);
}

void RangeLocks::stop() {
  mastered_.clear();
  for (auto& [number, operation] : operations_) {
    operation.sent = false;
    operation.waiting = false;
  }
}

void RangeLocks::report() {
  // A master that is gone may have granted the operation and told others so: from now on no more is held than that
  // leaves.
  for (const auto& [number, operation] : operations_) {
    if (operation.ever_sent && operation.action != RangeAction::test)
      weaken_for(own_.at(operation.name).held, operation.wanted);
  }
  for (const auto& [name, file] : own_) {
    const auto held = file.held.held();
    if (held.empty()) continue;
    auto master = port_.master_of(name);
    CHECK_INVARIANT(master.has_value());
    for (const HeldRange& range : held)
      port_.post(*master, RangeReport{range, name});
  }
}

void RangeLocks::resume() {
  // In order of being asked for; the numbers first, since what is sent to this node itself may end at once.
  std::vector<std::uint64_t> numbers;
  numbers.reserve(operations_.size());
  for (const auto& [number, operation] : operations_)
    numbers.push_back(number);
  for (std::uint64_t number : numbers) {
    auto found = operations_.find(number);
    if (found != operations_.end() && !found->second.sent) send(number, found->second);
  }
}

void RangeLocks::fail_all(int error) {
  while (!operations_.empty())
    finish(operations_.begin()->first, {error, {}});
}

// The master's side.

bool RangeLocks::handle(Member from, const RangeRequest& request) {
  const HeldRange& wanted = request.wanted;
  if (wanted.owner.node != from) return false;
  File& file = mastered_[request.name];
  const bool flock = wanted.owner.kind == RangeOwnerKind::flock;
  if (flock && request.action != RangeAction::test && !file.table.has(wanted)) {
    file.table.set({wanted.owner, 0, RangeMode::unlocked, wanted.range});
    grant_waiting(request.name, file);
  }
  const WaitingRange asked{wanted, request.action, request.operation, clock_.now()};
  if (auto reply = decide(request.name, file, asked)) {
    port_.post(from, *reply);
    if (request.action != RangeAction::test) grant_waiting(request.name, file);
  } else if (file.table.size() + file.waiting.size() >= ranges_per_file_) {
    port_.post(from, RangeReply{request.operation, RangeCode::no_room, {}});
  } else {
    file.waiting.push_back(asked);
    port_.post(from, RangeReply{request.operation, RangeCode::queued, {}});
  }
  forget_if_empty(request.name);
  return true;
}

/// Does what is asked if that is possible now, and says so; nothing while it has to wait.
std::optional<RangeReply> RangeLocks::decide(const ResourceName& name, File& file, const WaitingRange& asked) {
  const HeldRange& wanted = asked.wanted;
  const bool changes = asked.action != RangeAction::test;
  const RangeReply done{asked.operation, RangeCode::done, {}};
  if (changes && file.table.has(wanted)) return done;
  const bool locks = wanted.mode != RangeMode::unlocked;
  if (locks && port_.blocked(name)) return std::nullopt;
  if (auto conflict = file.table.conflict(wanted)) {
    if (asked.action == RangeAction::set_or_wait) return std::nullopt;
    return RangeReply{asked.operation, RangeCode::conflict, *conflict};
  }
  if (changes && locks && file.table.size() >= ranges_per_file_)
    return RangeReply{asked.operation, RangeCode::no_room, {}};
  if (changes) file.table.set(wanted);
  return done;
}

void RangeLocks::handle(Member from, const RangeCancel& cancel) {
  auto file = mastered_.find(cancel.name);
  if (file == mastered_.end()) return;
  auto found = std::ranges::find_if(file->second.waiting, [&](const WaitingRange& waiting) {
    return waiting.operation == cancel.operation && waiting.wanted.owner.node == from;
  });
  // Not there: it was answered before.
  if (found == file->second.waiting.end()) return;
  port_.post(from, RangeReply{cancel.operation, RangeCode::cancelled, {}});
  file->second.waiting.erase(found);
  forget_if_empty(cancel.name);
}

bool RangeLocks::handle(Member from, const RangeReport& report) {
  if (report.held.owner.node != from || report.held.mode == RangeMode::unlocked) return false;
  File& file = mastered_[report.name];
  const bool sound = !file.table.conflict(report.held);
  if (sound) file.table.set(report.held);
  forget_if_empty(report.name);
  return sound;
}

void RangeLocks::unblocked(const ResourceName& name) {
  auto found = mastered_.find(name);
  if (found == mastered_.end()) return;
  grant_waiting(name, found->second);
  forget_if_empty(name);
}

void RangeLocks::grant_waiting(const ResourceName& name, File& file) {
  for (auto waiting = file.waiting.begin(); waiting != file.waiting.end();) {
    const auto reply = decide(name, file, *waiting);
    if (!reply) {
      ++waiting;
      continue;
    }
    port_.post(waiting->wanted.owner.node, *reply);
    file.waiting.erase(waiting);
    // What was granted may be weaker than what its owner had, which lets through one that was passed over.
    waiting = file.waiting.begin();
  }
}

void RangeLocks::forget_if_empty(const ResourceName& name) {
  auto found = mastered_.find(name);
  if (found != mastered_.end() && found->second.table.empty() && found->second.waiting.empty()) mastered_.erase(found);
}

}  // namespace corral::dlm
