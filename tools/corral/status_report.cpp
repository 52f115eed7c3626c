#include "tools/corral/status_report.h"

#include <algorithm>
#include <array>

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "cluster/address.h"
#include "cluster/settings.h"
#include "ondisk/field_table.h"
#include "tools/corral/text_table.h"

namespace corral {

using cluster::NodeState;
using cluster::ObservedNode;
using nlohmann::json;

namespace {

std::string describe_endpoint(const cluster::Slot& slot) {
  if (slot.addresses.empty()) return "-";
  const std::string address = cluster::describe_address(slot.addresses.front());
  const bool bracketed = address.find(':') != std::string::npos;
  return fmt::format("{}{}{}:{}", bracketed ? "[" : "", address, bracketed ? "]" : "", slot.port);
}

std::int64_t milliseconds(Duration duration) {
  return duration / std::chrono::milliseconds(1);
}

json to_json(const ObservedNode& node, bool local) {
  const cluster::Slot& slot = node.slot;
  json addresses = json::array();
  for (const cluster::Address& address : slot.addresses)
    addresses.push_back(cluster::describe_address(address));
  json hears = json::array();
  for (std::uint32_t i = 0; i < cluster::kSlots; ++i)
    if (slot.hears[i]) hears.push_back(i);
  json shown = {{"slot", slot.id.value},
                {"name", slot.name},
                {"incarnation", slot.incarnation.value},
                {"state", name_of(node.state)},
                {"local", local},
                {"addresses", std::move(addresses)},
                {"port", slot.port},
                {"key", fmt::format("{:#018x}", slot.key)},
                {"heartbeat", slot.heartbeat},
                {"heartbeat_age_ms", milliseconds(node.silence)},
                {"cycle_ms", slot.cycle_ms},
                {"health", slot.health},
                {"view", slot.view.value},
                {"protocol_version", slot.protocol_version},
                {"hears", std::move(hears)}};
  if (node.admitted) shown["may_write"] = *node.admitted;
  shown["waits_for_operator"] = node.waits_for_operator();
  return shown;
}

json to_json(const cluster::Observation& seen, const std::vector<Member>& local) {
  json nodes = json::array();
  for (const ObservedNode& node : seen.nodes)
    nodes.push_back(to_json(node, std::ranges::find(local, node.slot.member()) != local.end()));
  json members = json::array();
  for (const Member& member : seen.record.view.members)
    members.push_back(member.node.value);
  json settings;
  for (const auto& [name, value] : cluster::describe_settings(seen.header.settings))
    settings[name] = value;
  const cluster::Votes& votes = seen.votes;
  return {{"uuid", ondisk::describe_uuid(std::as_bytes(std::span(seen.header.cluster)))},
          {"settings", std::move(settings)},
          {"view", {{"number", seen.record.view.number.value}, {"members", std::move(members)}}},
          {"leader", seen.leader ? json(seen.leader->value) : json()},
          {"votes",
           {{"node", votes.nodes},
            {"disk", votes.disk},
            {"expected", votes.expected},
            {"total", votes.total()},
            {"quorum", votes.quorum},
            {"quorate", votes.quorate() && seen.anybody_alive()}}},
          {"nodes", std::move(nodes)},
          {"expelled", seen.header.expelled},
          {"problems", seen.problems}};
}

std::string words_for(NodeState state) {
  std::string words(name_of(state));
  words[0] = static_cast<char>(words[0] - 'a' + 'A');
  return words;
}

std::string line(std::string_view name, const std::string& value) {
  return fmt::format("{:<18}{}\n", fmt::format("{}:", name), value);
}
}  // namespace

std::string_view name_of(JournalState state) {
  switch (state) {
    case JournalState::in_use:
      return "in use";
    case JournalState::clean:
      return "clean";
    case JournalState::dirty:
      return "dirty";
    case JournalState::damaged:
      return "damaged";
  }
  return "";
}

bool StatusReport::mount_is_well() const {
  if (!mount.is_object() || mount.value("withdrawn", true)) return false;
  const auto member = mount.find("cluster");
  return member == mount.end() || member->is_null() ||
         (member->value("member", false) && member->value("serving", false));
}

int StatusReport::exit_code() const {
  const bool by_mount = !directory.empty();
  if (by_mount && !mount_is_well()) return status_exit::kNotMember;
  if (!cluster) return by_mount ? status_exit::kWell : status_exit::kNobody;
  if (!cluster->anybody_alive()) return status_exit::kNobody;
  return cluster->votes.quorate() ? status_exit::kWell : status_exit::kNotQuorate;
}

json StatusReport::to_json() const {
  json states = json::array();
  for (JournalState state : journals)
    states.push_back(name_of(state));
  json report = {{"device", device},
                 {"lock_table", lock_table},
                 {"lock_protocol", lock_protocol},
                 {"cluster", cluster ? corral::to_json(*cluster, local) : json()},
                 {"journals", std::move(states)},
                 {"exit_code", exit_code()}};
  if (directory.empty()) return report;
  report["directory"] = directory;
  report["own_slot"] = own ? json(own->node.value) : json();
  report["mount"] = mount;
  if (!mount_error.empty()) report["mount_error"] = mount_error;
  return report;
}

namespace {
std::string describe_cluster(const cluster::Observation& seen) {
  const ObservedNode* leader = seen.leader ? seen.find(*seen.leader) : nullptr;
  const cluster::Votes& votes = seen.votes;
  std::string settings;
  for (const auto& [name, value] : cluster::describe_settings(seen.header.settings))
    if (!value.empty()) settings += fmt::format("{}{} {}", settings.empty() ? "" : ", ", name, value);
  std::string text = line("Cluster UUID", ondisk::describe_uuid(std::as_bytes(std::span(seen.header.cluster))));
  text += line("View", fmt::format("{}{}", seen.record.view.number.value,
                                   leader == nullptr ? "" : ", led by " + leader->slot.name));
  text += line("Settings", settings);
  text += line("Expected votes", fmt::format("{}", votes.expected));
  text += line("Disk votes", fmt::format("{}", votes.disk));
  text += line("Node votes", fmt::format("{}", votes.nodes));
  text += line("Total votes", fmt::format("{}", votes.total()));
  text += line("Quorum", fmt::format("{}", votes.quorum));
  return text;
}

std::string describe_freeze(const json& frozen) {
  const auto node = frozen.find("node");
  const auto slot = frozen.find("slot");
  std::string who = "another node";
  if (frozen.value("here", false)) {
    who = "this mount";
  } else if (node != frozen.end() && node->is_string()) {
    who = fmt::format("node {}", node->get<std::string>());
  } else if (slot != frozen.end() && slot->is_number()) {
    who = fmt::format("the node in slot {}", slot->get<std::uint32_t>());
  }
  const auto since = static_cast<std::time_t>(frozen.value("since", std::int64_t{0}));
  return fmt::format("by {}, since {:%Y-%m-%d %H:%M:%S}: changes wait for corral thaw", who, fmt::localtime(since));
}

std::string describe_mount(const json& mount) {
  std::string text = line("Mount process", fmt::format("{}", mount.value("pid", 0)));
  if (mount.value("withdrawn", false)) text += line("Withdrawn", mount.value("withdraw_reason", ""));
  if (const auto frozen = mount.find("frozen"); frozen != mount.end() && frozen->is_object())
    text += line("Frozen", describe_freeze(*frozen));
  const auto member = mount.find("cluster");
  if (member == mount.end() || !member->is_object()) return text;
  const std::string ended = member->value("ended", "");
  if (!ended.empty()) text += line("Membership", "ended: " + ended);
  if (member->value("member", false))
    text += line("Lease", member->value("serving", false) ? "held" : "run out: requests wait");
  text += line("Lock manager", member->value("lock_manager", "-"));
  const auto not_fenced = member->find("not_fenced");
  if (not_fenced != member->end())
    for (const json& one : *not_fenced)
      text += line("Cannot fence", fmt::format("node {}: {}", one.value("slot", 0u), one.value("reason", "")));
  const auto recovering = member->find("not_recovered");
  if (recovering != member->end() && !recovering->empty())
    text +=
        line("In recovery", fmt::format("nodes {}", fmt::join(recovering->get<std::vector<std::uint32_t>>(), ", ")));
  return text;
}
}  // namespace

std::string StatusReport::text() const {
  const bool quorate = cluster && cluster->anybody_alive() && cluster->votes.quorate();
  std::string text = fmt::format("Cluster status for {}: {}\n\n", lock_table.empty() ? device : lock_table,
                                 !cluster                   ? "no cluster (" + lock_protocol + ")"
                                 : quorate                  ? "Quorate"
                                 : cluster->anybody_alive() ? "Not quorate"
                                                            : "No node is alive");
  text += line("Device", directory.empty() ? device : fmt::format("{} on {}", device, directory));
  if (mount.is_object()) text += describe_mount(mount);
  if (!mount_error.empty()) text += line("Mount process", mount_error);
  if (!cluster) return text;
  text += describe_cluster(*cluster) + '\n';
  std::vector<std::vector<std::string>> rows{
      {"Slot", "Member Name", "Status", "Journal", "Heartbeat", "Incarnation", "Address"}};
  for (const ObservedNode& node : cluster->nodes) {
    std::string status = words_for(node.state);
    if (std::ranges::find(local, node.slot.member()) != local.end() && node.alive()) status += ", Local";
    // It hangs, or its host is down and was not fenced.
    if (node.state == NodeState::not_recovered && node.admitted.value_or(false)) status += ", May still write";
    const std::size_t id = node.slot.id.value;
    const bool in_slot = node.slot.state != cluster::SlotState::free;
    rows.push_back({fmt::format("{}", id), node.slot.name.empty() ? "-" : node.slot.name, status,
                    id < journals.size() ? std::string(name_of(journals[id])) : "none",
                    in_slot ? fmt::format("{:.1f}s", std::chrono::duration<double>(node.silence).count()) : "-",
                    fmt::format("{:x}", node.slot.incarnation.value), describe_endpoint(node.slot)});
  }
  text += text_table(rows);
  if (!cluster->header.expelled.empty())
    text += fmt::format("Expelled, until corral node admit: {}\n", fmt::join(cluster->header.expelled, ", "));
  for (const ObservedNode& node : cluster->nodes)
    if (node.waits_for_operator())
      text += fmt::format(
          "Waiting for an operator: make sure that node {0} is off, or cut off from the disk, then: corral fence ack "
          "{1} {0}\n",
          node.slot.name, device);
  for (const std::string& problem : cluster->problems)
    text += fmt::format("Problem: {}\n", problem);
  return text;
}

}  // namespace corral
