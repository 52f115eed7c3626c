#include "fuse/mount_report.h"

#include <algorithm>
#include <charconv>
#include <optional>

#include <nlohmann/json.hpp>
#include <unistd.h>

#include "base/parse_number.h"

namespace corral {

using nlohmann::json;

namespace {

/// An answer names at most so many resources.
constexpr std::size_t kMostResources = 100'000;

std::int64_t milliseconds(Duration duration) {
  return duration / std::chrono::milliseconds(1);
}

std::string_view type_name(std::uint64_t type) {
  switch (static_cast<GlockType>(type)) {
    case GlockType::nondisk:
      return "nondisk";
    case GlockType::inode:
      return "inode";
    case GlockType::resource_group:
      return "resource group";
    case GlockType::meta:
      return "meta";
    case GlockType::iopen:
      return "iopen";
    case GlockType::flock:
      return "flock";
    case GlockType::plock:
      return "plock";
    case GlockType::quota:
      return "quota";
    case GlockType::journal:
      return "journal";
  }
  return "unknown";
}

std::string_view lockspace_name(dlm::LockspaceId lockspace) {
  if (lockspace == kGlocks) return "glock";
  if (lockspace == kPosixLocks) return "fcntl";
  if (lockspace == kFileLocks) return "flock";
  return "unknown";
}

json owners_of(const std::vector<dlm::LockOwner>& owners) {
  json list = json::array();
  for (const dlm::LockOwner& owner : owners)
    list.push_back({{"slot", owner.node.node.value}, {"lock", owner.lock.value}});
  return list;
}

json describe(const dlm::DumpedLock& lock) {
  return {{"slot", lock.owner.node.node.value},
          {"lock", lock.owner.lock.value},
          {"granted", lock.granted ? json(dlm::name(*lock.granted)) : json()},
          {"requested", lock.requested ? json(dlm::name(*lock.requested)) : json()},
          {"for_ms", milliseconds(lock.since)},
          {"waits_for", owners_of(lock.waits_for)}};
}

json describe(const dlm::DumpedRange& range) {
  json waits_for = json::array();
  for (const dlm::RangeOwner& owner : range.waits_for)
    waits_for.push_back({{"slot", owner.node.node.value}, {"owner", owner.id}});
  return {{"slot", range.range.owner.node.node.value},
          {"owner", range.range.owner.id},
          {"process", range.range.process},
          {"mode", range.range.mode == dlm::RangeMode::write ? "write" : "read"},
          {"first", range.range.range.first},
          {"last", range.range.range.last},
          {"waiting", range.waiting},
          {"for_ms", milliseconds(range.since)},
          {"waits_for", std::move(waits_for)}};
}

std::optional<std::uint64_t> parse_hexadecimal(std::string_view digits) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number, 16);
  if (error != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
  return number;
}

/// What the resource's name says, as who made it wrote it: a glock's type and hexadecimal number (glock_resource()), or
/// the number of the inode whose ranges are locked (dlm::PosixLocks).
void add_name(const dlm::ResourceName& name, json& into) {
  const std::string_view text = name.bytes();
  const std::size_t slash = name.lockspace() == kGlocks ? text.find('/') : std::string_view::npos;
  if (name.lockspace() == kGlocks && slash == std::string_view::npos) return;
  const auto type = name.lockspace() == kGlocks ? parse_number<std::uint64_t>(text.substr(0, slash))
                                                : static_cast<std::uint64_t>(GlockType::inode);
  const auto number = parse_hexadecimal(slash == std::string_view::npos ? text : text.substr(slash + 1));
  if (!type || !number) return;
  into["type"] = type_name(*type);
  into["number"] = *number;
}

json describe(const dlm::DumpedResource& resource) {
  json shown = {{"lockspace", lockspace_name(resource.name.lockspace())},
                {"resource", resource.name.describe()},
                {"master", resource.master ? json(resource.master->node.value) : json()},
                {"locks", json::array()},
                {"ranges", json::array()}};
  add_name(resource.name, shown);
  json blocked_by = json::array();
  for (NodeId node : resource.blocked_by)
    blocked_by.push_back(node.value);
  shown["blocked_by"] = std::move(blocked_by);
  for (const dlm::DumpedLock& lock : resource.locks)
    shown["locks"].push_back(describe(lock));
  for (const dlm::DumpedRange& range : resource.ranges)
    shown["ranges"].push_back(describe(range));
  return shown;
}

json requests_of(const Front& front) {
  json requests = json::object();
  for (std::uint32_t opcode = 0; opcode < protocol::kOpcodes; ++opcode) {
    const std::uint64_t count = front.counters().requests[opcode];
    if (count == 0) continue;
    const char* name = protocol::opcode_name(opcode);
    const LatencyHistogram& latency = front.latencies()[opcode];
    // Buckets behind the last that is used say nothing.
    const auto& buckets = latency.buckets();
    const auto used = std::find_if(buckets.rbegin(), buckets.rend(), [](std::uint64_t n) { return n != 0; });
    requests[name != nullptr ? name : fmt::format("{}", opcode)] = {
        {"count", count},
        {"total_us", latency.total() / std::chrono::microseconds(1)},
        {"latency_log2_us", json(std::vector<std::uint64_t>(buckets.begin(), used.base()))}};
  }
  return requests;
}

}  // namespace

Result<json> MountReport::answer(const json& request) const {
  const auto command = request.find("command");
  const std::string name = command != request.end() && command->is_string() ? command->get<std::string>() : "";
  if (name == "status") return status();
  if (name == "counters") return counters();
  const auto all = request.find("all");
  if (name == "locks") return locks(all != request.end() && *all == true);
  return fail(EINVAL, "command \"{}\" is not known: there are status, locks and counters", name);
}

json MountReport::status() const {
  const Volume& volume = parts_.filesystem.volume();
  const ondisk::SuperblockInfo& superblock = parts_.filesystem.superblock();
  return {{"device", parts_.device},
          {"directory", parts_.directory},
          {"pid", getpid()},
          {"lock_table", superblock.lock_table},
          {"lock_protocol", superblock.lock_protocol},
          {"read_only", volume.options.read_only},
          {"withdrawn", volume.withdrawn},
          {"withdraw_reason", volume.withdraw_reason},
          {"requests_running", parts_.front.running()},
          {"frozen", frozen()},
          {"cluster", parts_.node == nullptr ? json() : membership()}};
}

/// "slot" and "node" are null where it is not known who has frozen the volume, or is about to.
json MountReport::frozen() const {
  const auto& frozen = parts_.filesystem.freezer().frozen();
  if (!frozen) return {};
  json shown = {{"here", parts_.filesystem.freezer().frozen_here()},
                {"since", frozen->since.seconds},
                {"slot", nullptr},
                {"node", nullptr}};
  if (!frozen->by) return shown;
  shown["slot"] = frozen->by->value;
  const cluster::Membership* membership = parts_.node == nullptr ? nullptr : parts_.node->membership();
  if (membership == nullptr) return shown;
  const cluster::Slot* slot = membership->core().monitor().slot(NodeId(frozen->by->value));
  if (slot != nullptr && !slot->name.empty()) shown["node"] = slot->name;
  return shown;
}

json MountReport::membership() const {
  const ClusterNode& node = *parts_.node;
  json shown = {{"slot", node.self().node.value},
                {"incarnation", node.self().incarnation.value},
                {"member", false},
                {"serving", false},
                {"lock_manager", node.lock_manager().describe_state()},
                {"ended", node.end_reason() ? node.end_reason()->describe() : ""}};
  json unrecovered = json::array();
  for (const Member& member : node.unrecovered())
    unrecovered.push_back(member.node.value);
  shown["not_recovered"] = std::move(unrecovered);
  if (const cluster::Membership* membership = node.membership()) {
    const cluster::MembershipCore& core = membership->core();
    shown["member"] = core.phase() == cluster::MembershipCore::Phase::member;
    shown["serving"] = membership->may_serve();
    shown["view"] = core.view().number.value;
    shown["leader"] = core.is_leader();
    json not_fenced = json::array();
    for (const auto& [victim, reason] : membership->not_fenced())
      not_fenced.push_back({{"slot", victim.node.value}, {"reason", reason}});
    shown["not_fenced"] = std::move(not_fenced);
  }
  return shown;
}

json MountReport::locks(bool all) const {
  json answer = {{"glocks_waited_for", parts_.filesystem.glocks().waiting()}, {"resources", json::array()}};
  if (parts_.node == nullptr) return answer;
  const dlm::Dump dump = parts_.node->lock_manager().dump(all ? dlm::DumpScope::all : dlm::DumpScope::waited_for);
  answer["slot"] = dump.self.node.value;
  answer["view"] = dump.view.number.value;
  answer["lock_manager"] = dump.state;
  answer["resources_left_out"] = dump.resources.size() - std::min(dump.resources.size(), kMostResources);
  for (const dlm::DumpedResource& resource : dump.resources) {
    if (answer["resources"].size() == kMostResources) break;
    answer["resources"].push_back(describe(resource));
  }
  json names = json::object();
  if (const cluster::Membership* membership = parts_.node->membership()) {
    for (const cluster::Slot* slot : membership->core().monitor().occupied())
      names[fmt::format("{}", slot->id.value)] = slot->name;
  }
  answer["names"] = std::move(names);
  return answer;
}

json MountReport::counters() const {
  Filesystem& filesystem = parts_.filesystem;
  const FrontCounters& front = parts_.front.counters();
  const GlockCounters& glocks = filesystem.glocks().counters();
  const BlockCache& cache = filesystem.volume().cache;
  json answer = {{"time_us", filesystem.volume().clock.now().time_since_epoch() / std::chrono::microseconds(1)},
                 {"requests", requests_of(parts_.front)},
                 {"running", parts_.front.running()},
                 {"errors", front.errors},
                 {"bytes_read", front.bytes_read},
                 {"bytes_written", front.bytes_written},
                 {"glocks",
                  {{"hits", glocks.hits},
                   {"waits", glocks.waits},
                   {"promotes", glocks.promotes},
                   {"demotes", glocks.demotes},
                   {"callbacks", glocks.callbacks},
                   {"held", filesystem.glocks().size()}}},
                 {"cache", {{"bytes", cache.cached_bytes()}, {"limit_bytes", cache.limit_bytes()}}},
                 {"inodes", {{"awake", filesystem.inodes().size()}, {"resting", filesystem.inodes().resting()}}}};
  if (const Journal* journal = filesystem.journal()) {
    const JournalCounters& counts = journal->counters();
    answer["journal"] = {{"transactions", counts.transactions},
                         {"flushes", counts.flushes},
                         {"device_flushes", counts.device_flushes},
                         {"logged_blocks", counts.logged_blocks},
                         {"revokes", counts.revokes},
                         {"written_in_place", counts.written_in_place},
                         {"waits_for_space", counts.waits_for_space},
                         {"free_log_blocks", journal->free_log_blocks()}};
  }
  if (parts_.node != nullptr) {
    const dlm::LockManager& manager = parts_.node->lock_manager();
    answer["locks"] = {{"held", manager.locks()},
                       {"local_operations", manager.counters().local_operations},
                       {"remote_operations", manager.counters().remote_operations}};
  }
  return answer;
}

}  // namespace corral
