#include "tools/corral/node_command.h"

#include <algorithm>
#include <cstdio>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "cluster/address.h"
#include "tools/corral/confirmation.h"
#include "tools/corral/fencing_session.h"
#include "tools/corral/text_table.h"
#include "tools/corral/unmount.h"
#include "tools/corral/watched_volume.h"

namespace corral {

namespace {

constexpr int kNotYet = 1;
constexpr int kFailed = 8;
using Json = nlohmann::ordered_json;
using cluster::FencingWay;
using cluster::Observation;
using cluster::ObservedNode;

int report(const std::string& target, const Result<>& result) {
  if (result) return 0;
  const std::string words = result.error().describe();
  fmt::print(stderr, "corral: {}{}\n", words.starts_with(target) ? "" : target + ": ", words);
  return result.error().code() == ETIMEDOUT ? AnswerDeadline::kNoAnswer : kFailed;
}

bool is_expelled(const Observation& seen, const std::string& name) {
  return std::ranges::find(seen.header.expelled, name) != seen.header.expelled.end();
}

const char* name_of(FencingWay way) {
  switch (way) {
    case FencingWay::reservations:
      return "reservations";
    case FencingWay::life_locks:
      return "locks";
    case FencingWay::agent:
      return "agent";
    case FencingWay::manual:
      return "manual";
  }
  return "";
}

bool has_slot(const ObservedNode& node) {
  return node.slot.state != cluster::SlotState::free;
}

/// Whether it is kept from writing.
std::string describe_fencing(const ObservedNode& node) {
  if (!has_slot(node)) return "-";
  const char* way = name_of(cluster::way_of_key(node.slot.key));
  if (node.waits_for_operator()) return fmt::format("{}, waits for corral fence ack", way);
  if (!node.admitted) return way;
  if (*node.admitted) return fmt::format("{}, {}", way, node.alive() ? "may write" : "may still write");
  return fmt::format("{}, fenced", way);
}

/// A node of the view whose heart beats.
unsigned votes_of(const Observation& seen, const ObservedNode& node) {
  return node.alive() && seen.record.view.contains(node.slot.member()) ? 1 : 0;
}

std::string describe_addresses(const cluster::Slot& slot) {
  std::vector<std::string> texts;
  for (const cluster::Address& address : slot.addresses)
    texts.push_back(cluster::describe_address(address));
  return texts.empty() ? "-" : fmt::format("{} port {}", fmt::join(texts, ","), slot.port);
}

Json json_of(const Observation& seen) {
  Json nodes = Json::array();
  for (const ObservedNode& node : seen.nodes) {
    Json addresses = Json::array();
    for (const cluster::Address& address : node.slot.addresses)
      addresses.push_back(cluster::describe_address(address));
    nodes.push_back({{"slot", node.slot.id.value},
                     {"name", node.slot.name},
                     {"incarnation", node.slot.incarnation.value},
                     {"state", cluster::name_of(node.state)},
                     {"expelled", is_expelled(seen, node.slot.name)},
                     {"addresses", std::move(addresses)},
                     {"port", node.slot.port},
                     {"key", fmt::format("{:#018x}", node.slot.key)},
                     {"fencing", name_of(cluster::way_of_key(node.slot.key))},
                     {"may_write", node.admitted ? Json(*node.admitted) : Json()},
                     {"waits_for_operator", node.waits_for_operator()},
                     {"votes", votes_of(seen, node)}});
  }
  return {{"view", seen.record.view.number.value},
          {"leader", seen.leader ? Json(seen.leader->value) : Json()},
          {"nodes", std::move(nodes)},
          {"expelled", seen.header.expelled},
          {"votes",
           {{"node", seen.votes.nodes},
            {"disk", seen.votes.disk},
            {"expected", seen.votes.expected},
            {"quorum", seen.votes.quorum},
            {"quorate", seen.votes.quorate() && seen.anybody_alive()}}}};
}

void print(const Observation& seen) {
  std::vector<std::vector<std::string>> rows{
      {"Slot", "Name", "State", "Incarnation", "Key", "Fencing", "Votes", "Addresses"}};
  for (const ObservedNode& node : seen.nodes)
    rows.push_back(
        {fmt::format("{}", node.slot.id.value), node.slot.name.empty() ? "-" : node.slot.name,
         fmt::format("{}{}", cluster::name_of(node.state), is_expelled(seen, node.slot.name) ? ", expelled" : ""),
         fmt::format("{:x}", node.slot.incarnation.value), has_slot(node) ? fmt::format("{:016x}", node.slot.key) : "-",
         describe_fencing(node), fmt::format("{}", votes_of(seen, node)), describe_addresses(node.slot)});
  fmt::print("{}", text_table(rows));
  fmt::print("{} votes of nodes and {} of the disk of {} expected, quorum {}{}\n", seen.votes.nodes, seen.votes.disk,
             seen.votes.expected, seen.votes.quorum, seen.leader ? "" : "; no node is alive");
  if (!seen.header.expelled.empty()) fmt::print("expelled: {}\n", fmt::join(seen.header.expelled, ", "));
  for (const std::string& problem : seen.problems)
    fmt::print("problem: {}\n", problem);
}

Task<Result<>> look_and_show(Executor& executor, const VolumeReader& volume, bool json) {
  CO_TRY(const cluster::ClusterArea area, co_await cluster::ClusterArea::find(volume));
  cluster::Observer observer(executor, area);
  CO_TRY(const Observation seen, co_await observer.look());
  if (json)
    fmt::print("{}\n", json_of(seen).dump(2, ' ', false, Json::error_handler_t::replace));
  else
    print(seen);
  co_return Result<>{};
}

Result<CorralMount> mount_to_leave(const std::string& directory) {
  if (!directory.empty()) return mount_at(directory);
  TRY(const std::vector<CorralMount> mounts, corral_mounts());
  if (mounts.size() == 1) return mounts.front();
  return fail(EINVAL, "this host has {} Corral mounts: name the one that is to leave",
              mounts.empty() ? "no" : fmt::format("{}", mounts.size()));
}

struct Expulsion {
  std::string device;
  std::string node;
  bool sure = false;
  Duration limit{};  ///< of waiting until the node is out
};

/// What the command is about, asked where that was not done beforehand; then recorded.
Task<Result<>> confirm_and_expel(DiskFencing& fencing, Expulsion what) {
  const std::string& node = what.node;
  CO_TRY(const Observation seen, co_await fencing.look());
  const auto found = std::ranges::find_if(seen.nodes, [&](const ObservedNode& one) { return one.slot.name == node; });
  if (found == seen.nodes.end()) co_return fail(ENOENT, "no node \"{}\" has ever used the volume", node);
  if (is_expelled(seen, node)) co_return fail(EALREADY, "node {} is expelled already", node);
  if (!what.sure) {
    fmt::print(
        "Node {} ({}) loses the volume at once: what it has not synced is lost, and its programs get I/O errors.\n"
        "{}It is not let in again before: corral node admit {} {}\n",
        node, cluster::name_of(found->state),
        seen.header.settings.fence == cluster::FencePolicy::agent ? "The fence agent turns its host off.\n" : "",
        what.device, node);
    CO_TRY_VOID(confirm(fmt::format("Expel node {}?", node)));
  }
  CO_TRY_VOID(co_await fencing.expel(node));
  note_in_syslog(what.device, "an operator has expelled node {}", node);
  co_return Result<>{};
}

/// Expels the node, and waits until nothing of it is left in the cluster; says where it waits in vain.
Task<Result<>> expel_and_wait(Executor& executor, DiskFencing& fencing, Expulsion what, bool& is_out) {
  CO_TRY_VOID(co_await confirm_and_expel(fencing, what));
  const std::string& node = what.node;
  const Time give_up = executor.now() + what.limit;
  for (;;) {
    CO_TRY(const Observation seen, co_await fencing.look());
    const auto at = std::ranges::find_if(
        seen.nodes, [&](const ObservedNode& one) { return one.slot.name == node && has_slot(one); });
    is_out = at == seen.nodes.end();
    if (is_out) {
      fmt::print("node {} is out of the cluster\n", node);
      co_return Result<>{};
    }
    if (!seen.anybody_alive()) {
      fmt::print("node {} is expelled; no other node is alive: the next one that mounts the volume recovers it\n",
                 node);
      is_out = true;
      co_return Result<>{};
    }
    if (executor.now() < give_up && !at->waits_for_operator()) continue;
    fmt::print("node {} is expelled, and not out yet: {}\n", node,
               at->waits_for_operator()
                   ? fmt::format("make sure that it is off, then: corral fence ack {} {}", what.device, node)
                   : fmt::format("it is {}; corral status on the others' mounts says what they wait for",
                                 cluster::name_of(at->state)));
    co_return Result<>{};
  }
}

}  // namespace

NodeCommand::NodeCommand(CLI::App& app, int& status) {
  CLI::App* command = app.add_subcommand("node", "Show the nodes of a cluster; take one out, or let it in again");
  command->require_subcommand(1);
  const auto with_target = [this](CLI::App* one) {
    one->add_option("target", target_, "Device or mount point")->required();
  };
  const auto with_node = [this](CLI::App* one) { one->add_option("node", node_, "Its name")->required(); };
  const auto with_timeout = [this](CLI::App* one) {
    one->add_option("--timeout", timeout_seconds_, "Seconds to wait for it")
        ->capture_default_str()
        ->check(CLI::Range(0.1, 3600.0));
  };
  CLI::App* list_command = command->add_subcommand("list", "Show every node, as the disk tells");
  with_target(list_command);
  list_command->add_flag("--json", json_, "As a JSON object");
  list_command->callback([this, &status] { status = list(); });
  CLI::App* leave_command = command->add_subcommand("leave", "Unmount here, and leave the cluster in order");
  leave_command->add_option("mountpoint", target_, "Mount point (default: the only one of this host)");
  with_timeout(leave_command);
  leave_command->callback([this, &status] { status = leave(); });
  CLI::App* expel_command = command->add_subcommand("expel", "Fence a node, and let it in no more");
  with_target(expel_command);
  with_node(expel_command);
  expel_command->add_flag("-y,--yes", sure_, "Do not ask");
  with_timeout(expel_command);
  expel_command->callback([this, &status] { status = expel(); });
  CLI::App* admit_command = command->add_subcommand("admit", "Let an expelled node in again");
  with_target(admit_command);
  with_node(admit_command);
  admit_command->callback([this, &status] { status = admit(); });
}

int NodeCommand::list() const {
  return report(target_,
                with_watched_volume(device_behind(target_), [this](Executor& executor, const VolumeReader& volume) {
                  return look_and_show(executor, volume, json_);
                }));
}

int NodeCommand::leave() const {
  const auto mount = mount_to_leave(target_);
  if (!mount) return report(target_.empty() ? "node leave" : target_, std::unexpected(mount.error()));
  const auto limit = std::chrono::duration_cast<Duration>(std::chrono::duration<double>(timeout_seconds_));
  const Result<> left = unmount_within(mount->directory, limit);
  if (left) fmt::print("{} is unmounted; this node has left the cluster of {}\n", mount->directory, mount->device);
  return report(mount->directory, left);
}

int NodeCommand::expel() const {
  const std::string device = device_behind(target_);
  const auto limit = std::chrono::duration_cast<Duration>(std::chrono::duration<double>(timeout_seconds_));
  bool is_out = false;
  const int code = report(target_, with_fencing(device, false, [&](Executor& executor, DiskFencing& fencing) {
                            return expel_and_wait(executor, fencing, {device, node_, sure_, limit}, is_out);
                          }));
  return code == 0 && !is_out ? kNotYet : code;
}

int NodeCommand::admit() const {
  const std::string device = device_behind(target_);
  const Result<> done =
      with_fencing(device, false, [this](Executor&, DiskFencing& fencing) { return fencing.let_in(node_); });
  if (done) note_in_syslog(device, "an operator lets node {} in again", node_);
  return report(target_, done);
}

}  // namespace corral
