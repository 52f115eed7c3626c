#include "tools/corral/fence_command.h"

#include <algorithm>
#include <cstdio>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "tools/corral/confirmation.h"
#include "tools/corral/fencing_session.h"

namespace corral {

namespace {

constexpr int kStale = 1;
constexpr int kFailed = 8;
using Json = nlohmann::ordered_json;

const char* name_of(ReservationType type) {
  switch (type) {
    case ReservationType::none:
      return "none";
    case ReservationType::write_exclusive:
      return "write exclusive";
    case ReservationType::exclusive_access:
      return "exclusive access";
    case ReservationType::write_exclusive_registrants_only:
      return "write exclusive, registrants only";
    case ReservationType::exclusive_access_registrants_only:
      return "exclusive access, registrants only";
    case ReservationType::write_exclusive_all_registrants:
      return "write exclusive, all registrants";
    case ReservationType::exclusive_access_all_registrants:
      return "exclusive access, all registrants";
  }
  return "unknown";
}

const char* name_of(DiskFencing::Way way) {
  switch (way) {
    case DiskFencing::Way::reservations:
      return "persistent reservations";
    case DiskFencing::Way::life_locks:
      return "locks on the image file";
    case DiskFencing::Way::agent:
      return "a fence agent";
    case DiskFencing::Way::manual:
      return "an operator";
    case DiskFencing::Way::none:
      break;
  }
  return "none";
}

Json json_of(const FencingState& state) {
  Json json;
  json["way"] = name_of(state.way);
  if (state.way == DiskFencing::Way::agent) json["agent"] = state.agent;
  if (state.way != DiskFencing::Way::reservations) return json;
  json["generation"] = state.generation;
  json["reservation"] = {{"type", static_cast<unsigned>(state.reservation.type)},
                         {"holder", fmt::format("{:016x}", state.reservation.holder.value)}};
  json["keys"] = Json::array();
  for (const FencingState::Key& key : state.keys)
    json["keys"].push_back({{"key", fmt::format("{:016x}", key.key.value)},
                            {"paths", key.paths},
                            {"node", key.node ? Json(*key.node) : Json()},
                            {"stale", !key.node}});
  json["unregistered"] = state.unregistered;
  return json;
}

void print(const FencingState& state) {
  fmt::print("way         {}\n", name_of(state.way));
  if (state.way == DiskFencing::Way::life_locks)
    fmt::print("            a node is fenced when its process on this host has ended; end one that hangs (SIGKILL)\n");
  if (state.way == DiskFencing::Way::agent)
    fmt::print("            {} turns the host of a dead node off\n", state.agent);
  if (state.way == DiskFencing::Way::manual)
    fmt::print(
        "            a dead node is fenced when an operator has turned its host off and said so: corral fence ack\n");
  if (state.way != DiskFencing::Way::reservations) return;
  fmt::print("generation  {}\n", state.generation);
  fmt::print("reservation {}", name_of(state.reservation.type));
  if (state.reservation.type != ReservationType::none)
    fmt::print(" (type {}), held by {:016x}", static_cast<unsigned>(state.reservation.type),
               state.reservation.holder.value);
  fmt::print("\n");
  for (const FencingState::Key& key : state.keys)
    fmt::print("key         {:016x} {}{}\n", key.key.value, key.node ? "node " + *key.node : std::string("STALE"),
               key.paths > 1 ? fmt::format(" ({} paths)", key.paths) : "");
  for (const std::string& node : state.unregistered)
    fmt::print("no key      node {}\n", node);
}

int report(const std::string& device, const Result<>& result) {
  if (result) return 0;
  const std::string words = result.error().describe();
  fmt::print(stderr, "corral: {}{}\n", words.starts_with(device) ? "" : device + ": ", words);
  return kFailed;
}

Task<Result<>> read_into(DiskFencing& fencing, FencingState& state) {
  CO_TRY(state, co_await fencing.read());
  co_return Result<>{};
}

Task<Result<>> clear_and_tell(DiskFencing& fencing) {
  CO_TRY(std::vector<ReservationKey> removed, co_await fencing.clear_stale());
  for (const ReservationKey& key : removed)
    fmt::print("removed key {:016x}\n", key.value);
  co_return Result<>{};
}

/// Asks, where it was not said beforehand, and records the answer.
Task<Result<>> confirm_and_acknowledge(DiskFencing& fencing, std::string device, std::string node, bool sure) {
  CO_TRY(cluster::ObservedNode dead, co_await fencing.find_dead(node));
  if (!sure) {
    fmt::print(
        "Node {} (slot {}, incarnation {:x}) has been silent for at least {:.0f} s, and the disk still lets it write.\n"
        "Be sure of one of these before you go on:\n"
        "  - its host is off (not merely hanging or cut off from the network), or\n"
        "  - its host was restarted since it fell silent, or\n"
        "  - its host is cut off from the disk, and will stay so until it is restarted.\n"
        "If it can still write, the volume will be damaged: the other nodes replay its journal at once.\n",
        node, dead.slot.id.value, dead.slot.incarnation.value, std::chrono::duration<double>(dead.silence).count());
    CO_TRY_VOID(confirm(fmt::format("Can node {} write nothing more?", node)));
  }
  CO_TRY_VOID(co_await fencing.acknowledge(dead));
  note_in_syslog(device, "an operator has said that {} ({}) can write nothing more", node,
                 dead.slot.member().describe());
  fmt::print("recorded: node {} can write nothing more; the others recover it\n", node);
  co_return Result<>{};
}

}  // namespace

FenceCommand::FenceCommand(CLI::App& app, int& status) {
  CLI::App* command = app.add_subcommand("fence", "Show and change what keeps dead nodes from writing to the disk");
  command->require_subcommand(1);
  const auto with_device = [this](CLI::App* one) {
    one->add_option("device", device_, "Block device, image file or iscsi://host[:port]/target/lun")->required();
  };
  CLI::App* show_command = command->add_subcommand("status", "Show the keys on the disk and whose they are");
  with_device(show_command);
  show_command->add_flag("--json", json_, "As a JSON object");
  show_command->callback([this, &status] { status = show(); });
  CLI::App* node_command = command->add_subcommand("node", "Keep a node from writing, now");
  node_command->add_option("node", node_, "Its name")->required();
  with_device(node_command);
  node_command->callback([this, &status] { status = fence(); });
  CLI::App* clear_command = command->add_subcommand("clear", "Remove keys that belong to no node");
  clear_command->add_flag("--stale", stale_, "Only those that belong to no node; must be given")->required();
  with_device(clear_command);
  clear_command->callback([this, &status] { status = clear(); });
  CLI::App* ack_command = command->add_subcommand("ack", "Say that a dead node can write nothing more");
  with_device(ack_command);
  ack_command->add_option("node", node_, "Its name")->required();
  ack_command->add_flag("-y,--yes", sure_, "Do not ask: it is certain");
  ack_command->callback([this, &status] { status = acknowledge(); });
}

int FenceCommand::acknowledge() const {
  return report(device_, with_fencing(device_, false, [this](Executor&, DiskFencing& fencing) {
                  return confirm_and_acknowledge(fencing, device_, node_, sure_);
                }));
}

int FenceCommand::show() const {
  FencingState state;
  const Result<> result =
      with_fencing(device_, true, [&state](Executor&, DiskFencing& fencing) { return read_into(fencing, state); });
  if (!result) return report(device_, result);
  if (json_)
    fmt::print("{}\n", json_of(state).dump(2));
  else
    print(state);
  const bool stale = std::ranges::any_of(state.keys, [](const FencingState::Key& key) { return !key.node; });
  return stale || !state.unregistered.empty() ? kStale : 0;
}

int FenceCommand::fence() const {
  return report(device_,
                with_fencing(device_, false, [this](Executor&, DiskFencing& fencing) { return fencing.fence(node_); }));
}

int FenceCommand::clear() const {
  return report(device_,
                with_fencing(device_, false, [](Executor&, DiskFencing& fencing) { return clear_and_tell(fencing); }));
}

}  // namespace corral
