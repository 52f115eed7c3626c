#include "cluster/observation.h"

#include <algorithm>

#include "disk/life_locks.h"
#include "disk/reservation.h"

namespace corral::cluster {

namespace {

/// Of a slot in use, from what was seen of its heart.
NodeState state_of(const Slot& slot, Life life, const ViewRecord& record) {
  const bool beats = life == Life::alive;
  switch (slot.state) {
    case SlotState::free:
      return NodeState::offline;
    case SlotState::joining:
      return beats ? NodeState::joining : NodeState::offline;
    case SlotState::member:
      break;
  }
  if (life == Life::dead || life == Life::unknown) return NodeState::not_recovered;
  if (record.view.contains(slot.member())) return beats ? NodeState::online : NodeState::silent;
  if (!beats) return NodeState::silent;
  return slot.view ? NodeState::leaving : NodeState::joining;
}

}  // namespace

std::string_view name_of(NodeState state) {
  switch (state) {
    case NodeState::offline:
      return "offline";
    case NodeState::joining:
      return "joining";
    case NodeState::online:
      return "online";
    case NodeState::silent:
      return "silent";
    case NodeState::leaving:
      return "leaving";
    case NodeState::not_recovered:
      return "not recovered";
  }
  return "";
}

const ObservedNode* Observation::find(NodeId node) const {
  auto at = std::ranges::find(nodes, node, [](const ObservedNode& one) { return one.slot.id; });
  return at == nodes.end() ? nullptr : &*at;
}

bool Observation::anybody_alive() const {
  return std::ranges::any_of(nodes, &ObservedNode::alive);
}

/// Damage is told, and does not hide who is alive.
Task<Result<>> Observer::look_at_header() {
  auto header = co_await area_.read_header();
  if (!header && header.error().kind() != ErrorKind::corrupt) co_return std::unexpected(header.error());
  header_problem_ = header ? "" : header.error().describe();
  header_ = header.value_or(Header());
  co_return Result<>{};
}

Task<Result<>> Observer::scan() {
  const Time began = executor_.now();
  auto record = co_await area_.read_view();
  if (!record && record.error().kind() != ErrorKind::corrupt) co_return std::unexpected(record.error());
  view_problem_ = record ? "" : record.error().describe();
  record_ = record.value_or(ViewRecord());
  CO_TRY(slots_, co_await area_.read_slots(kSlots));
  monitor_->scanned(began, executor_.now(), slots_);
  co_return Result<>{};
}

bool Observer::certain() const {
  return std::ranges::all_of(monitor_->occupied(), [this](const Slot* slot) {
    const Life life = monitor_->life(slot->id);
    return life == Life::alive || life == Life::dead;
  });
}

Task<Result<Observation>> Observer::look() {
  CO_TRY_VOID(co_await look_at_header());
  const Timing timing = Timing::of(header_.settings);
  if (!monitor_) monitor_.emplace(timing);
  // Silence counts from the end of a reading to the begin of another one.
  const Time give_up = executor_.now() + timing.failure_timeout + 5 * timing.heartbeat_interval;
  CO_TRY_VOID(co_await scan());
  // What was seen alive by an earlier look may have died since.
  do {
    if (monitor_->occupied().empty()) break;
    co_await executor_.sleep_for(timing.heartbeat_interval);
    CO_TRY_VOID(co_await scan());
  } while (!certain() && executor_.now() < give_up);
  Observation observation = conclude();
  CO_TRY_VOID(co_await see_who_is_admitted(observation));
  co_return observation;
}

Observation Observer::conclude() const {
  Observation observation{.header = header_, .record = record_, .nodes = {}, .problems = {}, .leader = {}, .votes = {}};
  for (const std::string& problem : {header_problem_, view_problem_})
    if (!problem.empty()) observation.problems.push_back(problem);
  std::uint32_t voters = 0;
  for (const FoundSlot& found : slots_) {
    if (!found.slot) observation.problems.push_back(found.problem);
    if (!found.slot || !found.slot->incarnation) continue;
    const Slot& slot = *found.slot;
    ObservedNode node{.slot = slot,
                      .state = state_of(slot, monitor_->life(slot.id), record_),
                      .silence = monitor_->silence(slot.id),
                      .admitted = {}};
    const bool votes = node.alive() && record_.view.contains(slot.member());
    voters += votes ? 1 : 0;
    if (votes && !observation.leader) observation.leader = slot.id;
    observation.nodes.push_back(std::move(node));
  }
  observation.votes = count_votes(header_.settings.quorum, voters, record_.expected_nodes);
  return observation;
}

Task<Result<>> Observer::see_who_is_admitted(Observation& observation) const {
  const bool anybody = std::ranges::any_of(observation.nodes, [](const ObservedNode& node) { return node.slot.key; });
  if (!anybody) co_return Result<>{};
  std::optional<RegisteredKeys> keys;
  if (Reservations* reservations = area_.device().reservations()) {
    auto found = co_await reservations->read_keys();
    if (found) {
      keys = *std::move(found);
    } else if (found.error().code() != EOPNOTSUPP) {
      // A program that may not ask.
      observation.problems.push_back(found.error().describe());
    }
  }
  const LifeLocks* locks = area_.device().life_locks();
  for (ObservedNode& node : observation.nodes) {
    if (node.slot.state == SlotState::free || node.slot.key == 0) continue;
    switch (way_of_key(node.slot.key)) {
      case FencingWay::reservations:
        if (keys) node.admitted = keys->contains(ReservationKey(node.slot.key));
        break;
      case FencingWay::life_locks:
        if (locks != nullptr) {
          CO_TRY(node.admitted, locks->taken_by_another(node.slot.key));
        }
        break;
      case FencingWay::agent:
      case FencingWay::manual:
        node.admitted = !is_acknowledged(observation.header, node.slot);
        break;
    }
  }
  co_return Result<>{};
}

Task<Result<>> check_no_node_lives(Executor& executor, ClusterArea area, SoleUse use) {
  Observer observer(executor, area);
  CO_TRY(Observation observation, co_await observer.look());
  std::string living;
  for (const ObservedNode& node : observation.nodes) {
    const bool hangs = node.state == NodeState::not_recovered && node.admitted.value_or(false);
    if (!node.alive() && !(hangs && use == SoleUse::writing)) continue;
    living += fmt::format("{}node {} (slot {}, {}{})", living.empty() ? "" : ", ", node.slot.name, node.slot.id.value,
                          name_of(node.state), hangs ? ", but the disk still lets it write" : "");
  }
  if (living.empty()) co_return Result<>{};
  co_return fail(EBUSY,
                 "{}: in use by a cluster: {}: unmount the volume there first; nodes that died are recovered when one "
                 "mounts it",
                 area.device().name(), living);
}

}  // namespace corral::cluster
