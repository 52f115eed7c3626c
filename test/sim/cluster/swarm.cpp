#include "test/sim/cluster/swarm.h"

#include <fmt/format.h>

namespace corral::sim {

using namespace std::chrono_literals;

std::string_view name_of(FaultKind kind) {
  static constexpr std::array<std::string_view, kFaultKinds> kNames = {
      "kill",      "power-off",  "pause",     "split",        "one-way",     "broken-connection",
      "slow-link", "stuck-path", "lingering", "failing-path", "read-errors", "write-errors",
      "lost-keys", "rack-power", "leave"};
  return kNames[static_cast<std::size_t>(kind)];
}

namespace {

std::vector<FaultKind> faults_of(std::string_view scenario) {
  using enum FaultKind;
  if (scenario == "deaths") return {kill, power_off, pause, leave};
  if (scenario == "network") return {split, one_way, broken_connection, slow_connection};
  if (scenario == "disk")
    return {stuck_path, lingering_commands, failing_path, read_errors, write_errors, lost_registrations};
  if (scenario == "power") return {rack_power, power_off};
  std::vector<FaultKind> all;
  for (std::size_t i = 0; i < kFaultKinds; ++i)
    all.push_back(static_cast<FaultKind>(i));
  return all;
}

void draw_faults(Swarm& swarm, std::string_view scenario, Random& random) {
  if (scenario == "calm" || scenario == "mixed") return;
  const std::uint64_t share = random.between(1, 3);
  for (const FaultKind kind : faults_of(scenario)) {
    if (random.chance(share, scenario == "any" ? 6 : 3)) swarm.faults.push_back(kind);
  }
  swarm.between_faults = random.between(500, 8000) * 1ms;
}

void draw_equipment(Swarm& swarm, Random& random) {
  swarm.failure_timeout_ms = static_cast<std::uint32_t>(random.between(10, 50) * 100);
  swarm.target_has_abort = random.chance(3, 4);
  swarm.persisting_registrations = random.chance(3, 4);
  swarm.network_latency_most = random.chance(1, 3) ? random.between(1, 20) * 1ms : 500us;
  swarm.drift_ppm_most = random.chance(1, 2) ? 0 : static_cast<std::int64_t>(random.between(10, 10'000));
  if (random.chance(1, 4)) {
    swarm.device.write_latency = {.least = 200us, .most = 20ms, .slow_per_million = 5000, .slow = 300ms};
    swarm.device.flush_latency = {.least = 1ms, .most = 30ms, .slow_per_million = 10'000, .slow = 500ms};
  }
  swarm.mount.commit_interval = random.between(5, 5000) * 1ms;
  swarm.mount.cache_bytes = random.between(1, 16) << 20;
  constexpr QuotaMode kQuotaModes[] = {QuotaMode::off, QuotaMode::account, QuotaMode::on};
  swarm.mount.quota = kQuotaModes[random.below(3)];
  swarm.mount.discard = random.chance(1, 4);
}

/// How often each deed is done when it is switched on.
constexpr std::array<std::uint32_t, kDeeds> kWeights = {30, 12, 24, 16, 6, 8, 24, 14, 24, 6, 14,
                                                        8,  4,  6,  12, 6, 3, 3,  2,  2,  3, 1};

void draw_work(Swarm& swarm, std::string_view scenario, Random& random) {
  swarm.weights = kWeights;
  swarm.clients = static_cast<std::uint32_t>(random.between(1, 4));
  swarm.pause_most = random.between(100, 6000) * 1ms;
  swarm.names = static_cast<std::uint32_t>(random.between(2, 12));
  swarm.files = static_cast<std::uint32_t>(random.between(1, 6));
  if (scenario != "freeze") swarm.weights[static_cast<std::size_t>(Deed::freeze)] = 0;
  if (scenario == "mixed") {
    swarm.weights[static_cast<std::size_t>(Deed::link)] = 0;
    return;
  }
  for (std::uint32_t& weight : std::span(swarm.weights).first(static_cast<std::size_t>(Deed::freeze))) {
    if (random.chance(1, 3)) weight = 0;
    if (random.chance(1, 6)) weight *= 4;
  }
  // What a move between directories does with two names of one inode is not to be seen from outside.
  if (random.chance(1, 2)) {
    swarm.weights[static_cast<std::size_t>(Deed::link)] = 0;
  } else {
    swarm.weights[static_cast<std::size_t>(Deed::move_across)] = 0;
  }
  swarm.weights[static_cast<std::size_t>(Deed::read)] += 4;
  swarm.weights[static_cast<std::size_t>(Deed::lookup)] += 4;
}

}  // namespace

Result<Swarm> draw_swarm(std::string_view scenario, Random& random) {
  static constexpr std::string_view kScenarios[] = {"any",     "calm", "mixed", "deaths",
                                                    "network", "disk", "power", "freeze"};
  bool known = false;
  for (const std::string_view name : kScenarios)
    known |= name == scenario;
  if (!known)
    return fail(EINVAL, "there is no scenario {}: any, calm, mixed, deaths, network, disk, power, freeze", scenario);
  Swarm swarm;
  draw_faults(swarm, scenario, random);
  draw_equipment(swarm, random);
  draw_work(swarm, scenario, random);
  return swarm;
}

std::string Swarm::describe() const {
  std::string text = fmt::format("failure timeout {} ms, {} clients a node, cache {} MiB, commits every {} ms, faults",
                                 failure_timeout_ms, clients, mount.cache_bytes >> 20,
                                 std::chrono::duration_cast<std::chrono::milliseconds>(mount.commit_interval).count());
  for (const FaultKind kind : faults)
    text += fmt::format(" {}", name_of(kind));
  return text + (faults.empty() ? " none" : "");
}

}  // namespace corral::sim
