#include "test/sim/cluster/faults.h"

#include <algorithm>

#include "test/sim/cluster/simulation.h"

namespace corral::sim {

using namespace std::chrono_literals;

Faults::Faults(Simulation& simulation)
    : simulation_(simulation), random_(simulation.random.split()), scope_(simulation.time.executor) {}

Duration Faults::draw(Duration least, Duration most) {
  return Duration(static_cast<Duration::rep>(
      random_.between(static_cast<std::uint64_t>(least.count()), static_cast<std::uint64_t>(most.count()))));
}

void Faults::begin() {
  if (!simulation_.swarm.faults.empty()) scope_.spawn(strike_now_and_then());
}

Task<void> Faults::strike_now_and_then() {
  while (!simulation_.faults_ended()) {
    co_await simulation_.time.executor.sleep_for(draw(10ms, 2 * simulation_.swarm.between_faults));
    if (simulation_.faults_ended()) co_return;
    const auto& faults = simulation_.swarm.faults;
    strike(faults[random_.below(faults.size())]);
  }
}

/// One that is up; null where none is.
Host* Faults::pick_up() {
  return simulation_.any_host_up(random_);
}

void Faults::strike(FaultKind kind) {
  Host* host = pick_up();
  if (host == nullptr) return;
  simulation_.trace.line("-", "fault", "{}", name_of(kind));
  switch (kind) {
    case FaultKind::kill:
    case FaultKind::power_off:
      return host->kill(kind == FaultKind::power_off ? Host::Death::host : Host::Death::process);
    case FaultKind::pause:
      host->set_paused(true);
      return scope_.spawn(resume_later(*host, draw(10ms, 20s)));
    case FaultKind::split:
    case FaultKind::one_way:
      return split(kind == FaultKind::one_way);
    case FaultKind::broken_connection:
      return break_connection();
    case FaultKind::slow_connection:
      return slow_connection();
    case FaultKind::lost_registrations:
      return lose_registrations();
    case FaultKind::rack_power:
      return cut_rack_power();
    case FaultKind::leave:
      return host->leave();
    default:
      return disturb_path(kind);
  }
}

Task<void> Faults::resume_later(Host& host, Duration after) {
  co_await simulation_.time.executor.sleep_for(after);
  host.set_paused(false);
}

Task<void> Faults::heal_network_later(Duration after) {
  co_await simulation_.time.executor.sleep_for(after);
  simulation_.trace.line("-", "fault", "the network is healed");
  simulation_.network.heal_all();
}

void Faults::split(bool one_way) {
  // Members' numbers are slots, not hosts: any of them may be cut off.
  const auto nodes = static_cast<std::uint32_t>(simulation_.hosts.size());
  std::vector<bool> side;
  for (std::uint32_t i = 0; i < nodes; ++i)
    side.push_back(random_.chance(1, 2));
  for (std::uint32_t a = 0; a < nodes; ++a) {
    for (std::uint32_t b = 0; b < nodes; ++b) {
      if (side[a] == side[b] || (one_way && side[a])) continue;
      simulation_.network.cut(NodeId(a), NodeId(b));
      simulation_.trace.line("-", "fault", "nothing arrives from slot {} at slot {}", a, b);
    }
  }
  scope_.spawn(heal_network_later(draw(100ms, 20s)));
}

void Faults::break_connection() {
  const auto nodes = simulation_.hosts.size();
  const NodeId a(static_cast<std::uint32_t>(random_.below(nodes)));
  const NodeId b(static_cast<std::uint32_t>(random_.below(nodes)));
  if (a != b) simulation_.network.break_connection(a, b);
}

void Faults::slow_connection() {
  const auto nodes = simulation_.hosts.size();
  const NodeId a(static_cast<std::uint32_t>(random_.below(nodes)));
  const NodeId b(static_cast<std::uint32_t>(random_.below(nodes)));
  // Half of the times an earlier one is fast again.
  const Duration by = random_.chance(1, 2) ? Duration{} : draw(1ms, 300ms);
  simulation_.network.slow_down(a, b, by);
}

void Faults::disturb_path(FaultKind kind) {
  Host* host = pick_up();
  if (host == nullptr) return;
  SimulatedFault fault;
  Duration lasts = draw(50ms, 15s);
  switch (kind) {
    case FaultKind::stuck_path:
      fault.effect = SimulatedFault::Effect::stuck;
      break;
    case FaultKind::lingering_commands:
      fault.effect = SimulatedFault::Effect::lingering;
      fault.operations = SimulatedFault::writes | SimulatedFault::flushes;
      fault.per_million = 300'000;
      lasts = draw(10ms, 4s);
      break;
    case FaultKind::failing_path:
      host->path_disturbed = true;
      break;
    case FaultKind::read_errors:
    case FaultKind::write_errors:
      host->path_disturbed = true;
      fault.operations = kind == FaultKind::read_errors ? SimulatedFault::reads : SimulatedFault::writes;
      fault.times = random_.between(1, 4);
      fault.per_million = 200'000;
      break;
    default:
      CHECK_INVARIANT(false);
  }
  const PathFault path_fault{host->life(), host->mount().device.add_fault(fault)};
  simulation_.trace.line(host->name(), "fault", "its way to the disk: {}", name_of(kind));
  path_faults_.push_back(path_fault);
  scope_.spawn(heal_path_later(*host, path_fault, lasts));
}

Task<void> Faults::heal_path_later(Host& host, PathFault fault, Duration after) {
  co_await simulation_.time.executor.sleep_for(after);
  heal_path(host, fault);
}

void Faults::heal_path(Host& host, PathFault fault) {
  const auto removed = std::erase_if(
      path_faults_, [fault](const PathFault& one) { return one.life == fault.life && one.number == fault.number; });
  if (removed == 0 || !host.has_mount() || host.life() != fault.life) return;
  simulation_.trace.line(host.name(), "fault", "its way to the disk is healed");
  host.mount().device.remove_fault(fault.number);
}

void Faults::lose_registrations() {
  if (simulation_.swarm.persisting_registrations) return;
  simulation_.trace.line("-", "fault", "the target restarts and has forgotten all keys");
  simulation_.disk.restart_target(random_);
}

void Faults::cut_rack_power() {
  simulation_.trace.line("-", "fault", "the power of disk and nodes is cut");
  simulation_.disk_watch.power_lost();
  // What the nodes had in flight must not land when they go: first the disk.
  simulation_.disk.power_cut(PowerCut::Unstable::random, random_.next());
  for (auto& host : simulation_.hosts)
    host->kill(Host::Death::with_disk);
}

void Faults::end() {
  simulation_.network.heal_all();
  const auto nodes = static_cast<std::uint32_t>(simulation_.hosts.size());
  for (std::uint32_t a = 0; a < nodes; ++a) {
    for (std::uint32_t b = 0; b < nodes; ++b)
      simulation_.network.slow_down(NodeId(a), NodeId(b), Duration{});
  }
  for (auto& host : simulation_.hosts) {
    host->set_paused(false);
    for (const PathFault& fault : std::vector<PathFault>(path_faults_))
      if (host->life() == fault.life) heal_path(*host, fault);
  }
}

}  // namespace corral::sim
