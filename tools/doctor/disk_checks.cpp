#include "tools/doctor/disk_checks.h"

#include <algorithm>
#include <cstring>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include "base/log.h"
#include "base/random.h"
#include "cluster/area.h"
#include "cluster/membership_message.h"
#include "cluster/observation.h"
#include "disk/open_device.h"
#include "fence/disk_fencing.h"
#include "journal/log_head.h"
#include "offline/journals.h"
#include "tools/adopt/group_blocks.h"

namespace corral::doctor {

namespace {

constexpr std::string_view kLockCorral = "lock_corral";
/// Clocks that are further apart than this are not kept right.
constexpr std::int64_t kClockTolerance_s = 3;

const char* kind_of(const Device& device) {
  if (!names_path(device.name())) return "a LUN behind iSCSI";
  return const_cast<Device&>(device).life_locks() != nullptr ? "an image file" : "a device of the kernel's";
}

/// The advice for a device that cannot be opened.
std::string advice_for(const Error& error, const std::string& device) {
  if (error.code() == EACCES || error.code() == EPERM)
    return names_path(device) ? "run this as root" : "the CHAP user or secret is wrong, or the target lets nobody in";
  if (error.code() == ENOENT || error.code() == ENXIO || error.code() == ENODEV)
    return names_path(device) ? "lsblk shows the disks that this host sees"
                              : "iscsi-ls iscsi://HOST (libiscsi-bin) shows the target's names and LUNs";
  if (error.code() == ECONNREFUSED || error.code() == ETIMEDOUT || error.code() == EHOSTUNREACH)
    return "is the target on, its port right, and no firewall between?";
  return "see the kernel's log and the storage";
}

class DiskLook {
 public:
  DiskLook(Executor& executor, Device& device, Findings& findings)
      : executor_(executor), device_(device), findings_(findings) {}

  Task<std::optional<ClusterFacts>> run();

 private:
  void look_at_geometry();
  void look_at_blocks(const VolumeReader& volume);
  Task<void> look_at_size(const VolumeReader& volume);
  Task<std::optional<ClusterFacts>> look_at_cluster(const VolumeReader& volume);
  Task<void> look_at_journals(const VolumeReader& volume, std::optional<std::size_t> slots_in_use);

  Executor& executor_;
  Device& device_;
  Findings& findings_;
};

void DiskLook::look_at_geometry() {
  const DeviceGeometry& geometry = device_.geometry();
  findings_.good("device", fmt::format("{} is {} of {} bytes, with sectors of {} bytes (physical {})", device_.name(),
                                       kind_of(device_), geometry.size_bytes, geometry.sector_bytes,
                                       geometry.physical_sector_bytes));
  // It was opened for reading, so its geometry does not tell.
  if (names_path(device_.name()) && access(device_.name().c_str(), W_OK) != 0)
    findings_.problem("read only", fmt::format("{} takes no writes: {}", device_.name(), std::strerror(errno)),
                      "blockdev --setrw, the storage's setting, or the file's mode");
  if (geometry.alignment_offset_bytes != 0)
    findings_.warn("alignment",
                   fmt::format("the device begins {} bytes off its physical sectors", geometry.alignment_offset_bytes),
                   "use the whole disk, or a LUN that is aligned: each write costs a read otherwise");
  if (geometry.volatile_write_cache) {
    findings_.note("write cache",
                   "it is volatile, or the device does not tell: every commit flushes it, and nothing is lost",
                   "where the storage keeps it through a power cut, let it say so, and commits get faster");
  } else {
    findings_.good("write cache", "completed writes are stable");
  }
  if (geometry.discard_granularity_bytes == 0)
    findings_.note("discard", "freed space is not given back to the storage");
}

void DiskLook::look_at_blocks(const VolumeReader& volume) {
  const std::uint32_t block = volume.geometry().block_size();
  if (block < device_.geometry().physical_sector_bytes)
    findings_.warn("block size",
                   fmt::format("blocks of {} bytes on physical sectors of {} bytes: each small write costs a read",
                               block, device_.geometry().physical_sector_bytes),
                   "mkfs.corral -b 4096, when the volume is made anew");
  else
    findings_.good("block size", fmt::format("{} bytes", block));
}

Task<void> DiskLook::look_at_size(const VolumeReader& volume) {
  const auto groups = co_await read_rindex(volume);
  if (!groups || groups->empty()) {
    findings_.problem("volume size", groups ? std::string("it has no resource groups") : groups.error().describe(),
                      "if the device has shrunk, give it back its size; else fsck.corral -n tells more");
    co_return;
  }
  std::uint64_t end = 0;
  std::uint32_t least = groups->front().data;
  for (const ondisk::ResourceGroupIndexEntry& group : *groups) {
    end = std::max<std::uint64_t>(end, group.data0 + group.data);
    least = std::min<std::uint32_t>(least, group.data);
  }
  const std::uint64_t blocks = volume.volume_blocks();
  if (blocks > end + std::max<std::uint64_t>(least, 1024))
    findings_.note("volume size", fmt::format("the device has {} blocks, and the volume uses {}", blocks, end),
                   "the volume can be grown into the rest");
  else
    findings_.good("volume size", fmt::format("{} blocks, and the device has {}", end, blocks));
}

Task<void> DiskLook::look_at_journals(const VolumeReader& volume, std::optional<std::size_t> slots_in_use) {
  const auto journals = co_await find_journals(volume);
  if (!journals) {
    findings_.problem("journals", journals.error().describe(), "fsck.corral, with the volume unmounted everywhere");
    co_return;
  }
  std::int64_t ahead = 0;
  std::vector<std::uint32_t> dirty;
  for (const OfflineJournal& journal : *journals) {
    const auto head = co_await find_head({executor_, device_, volume.geometry(), journal.map});
    if (!head || !head->found) continue;
    if (!head->clean()) dirty.push_back(journal.id.value);
    ahead = std::max<std::int64_t>(ahead, head->time.seconds - executor_.clock().wall().seconds);
  }
  if (ahead > kClockTolerance_s)
    findings_.problem("clocks", fmt::format("the volume was written {} s from now: clocks of nodes differ", ahead),
                      "synchronise the clocks of this host and of the others (chrony, systemd-timesyncd)");
  if (!dirty.empty() && slots_in_use.value_or(0) == 0)
    findings_.note("journals", fmt::format("to be replayed: {}", fmt::join(dirty, ", ")),
                   "the next mount does it; corral replay does it now");
  if (!slots_in_use) {
    findings_.good("journals", fmt::format("{} journals", journals->size()));
    co_return;
  }
  const std::size_t free = journals->size() - std::min(journals->size(), *slots_in_use);
  const std::string words = fmt::format("{} journals, {} of them in no node's slot", journals->size(), free);
  if (free == 0)
    findings_.warn("journals", words, "one more node cannot mount: add journals, or unmount on another node");
  else
    findings_.good("journals", words);
}

Task<std::optional<ClusterFacts>> DiskLook::look_at_cluster(const VolumeReader& volume) {
  const std::string& protocol = volume.superblock().lock_protocol;
  auto area = co_await cluster::ClusterArea::find(volume);
  if (!area) {
    if (protocol == kLockCorral)
      findings_.problem("cluster area", area.error().describe(), "fsck.corral, with the volume unmounted everywhere");
    else
      findings_.note("cluster area",
                     fmt::format("none: the volume's lock protocol is {}, for one node of Corral's", protocol),
                     "corral adopt makes it a volume for several nodes, once no kernel has it mounted");
    co_return std::nullopt;
  }
  const auto header = co_await area->read_header();
  const auto slots = co_await area->read_slots(cluster::kSlots);
  if (!header || !slots) {
    findings_.problem("cluster area", header ? slots.error().describe() : header.error().describe(),
                      "fsck.corral, with the volume unmounted everywhere");
    co_return std::nullopt;
  }
  ClusterFacts facts{
      .port = header->settings.port, .failure_timeout_ms = header->settings.failure_timeout_ms, .occupied = {}};
  for (const cluster::FoundSlot& found : *slots) {
    if (!found.slot || found.slot->state == cluster::SlotState::free) continue;
    const cluster::Slot& slot = *found.slot;
    facts.occupied.push_back({.name = slot.name, .port = slot.port, .addresses = slot.addresses});
    if (slot.protocol_version != cluster::kProtocolVersion)
      findings_.problem("protocol",
                        fmt::format("node {} speaks version {} of the protocol between nodes, this program {}",
                                    slot.name, slot.protocol_version, cluster::kProtocolVersion),
                        "install the same release on all nodes");
  }
  findings_.good("cluster area", fmt::format("port {}, failure timeout {} ms, {} slots in use", facts.port,
                                             facts.failure_timeout_ms, facts.occupied.size()));
  co_return facts;
}

Task<std::optional<ClusterFacts>> DiskLook::run() {
  look_at_geometry();
  const auto volume = co_await VolumeReader::open(device_);
  if (!volume) {
    findings_.problem(
        "volume", volume.error().describe(),
        volume.error().kind() == ErrorKind::corrupt ? "fsck.corral -n tells what is damaged" : "mkfs.corral makes one");
    co_return std::nullopt;
  }
  look_at_blocks(*volume);
  co_await look_at_size(*volume);
  std::optional<ClusterFacts> facts = co_await look_at_cluster(*volume);
  co_await look_at_journals(*volume, facts ? std::optional(facts->occupied.size()) : std::nullopt);
  co_return facts;
}

/// Opens the device beside whoever uses it, and runs the task that work(executor, device) makes.
template <class Work>
bool with_device(const std::string& name, Findings& findings, bool tell, Work work) {
  EventLoop loop;
  auto device =
      loop.run_until_done(open_device(loop, name, {.read_only = true, .exclusive = false, .shared_file = true}));
  if (!device) {
    if (tell) findings.problem("device", device.error().describe(), advice_for(device.error(), name));
    return false;
  }
  loop.run_until_done(work(loop.executor(), **device));
  loop.run_until_done((*device)->close());
  return true;
}

Task<void> look_at_disk(Executor& executor, Device& device, Findings& findings, std::optional<ClusterFacts>& facts) {
  DiskLook look(executor, device, findings);
  facts = co_await look.run();
}

/// What the disk can do; false where nodes cannot be fenced by it.
Task<bool> look_at_capabilities(Device& device, Findings& findings) {
  Reservations* reservations = device.reservations();
  Result<ReservationCapabilities> can = fail(EOPNOTSUPP);
  if (reservations != nullptr) can = co_await reservations->report_capabilities();
  if (!can && can.error().code() == EOPNOTSUPP && device.life_locks() != nullptr) {
    findings.note("fencing", "an image file: nodes are fenced by the end of their processes, on this host alone");
    co_return false;
  }
  if (!can) {
    const bool none = can.error().code() == EOPNOTSUPP;
    findings.problem("reservations",
                     none ? std::string("the disk has no persistent reservations, or they cannot be reached")
                          : can.error().describe(),
                     none ? "several nodes need a whole disk with SCSI-3 or NVMe reservations: turn them on at the "
                            "storage, or set another way (corral config set DEVICE fence); one node mounts with "
                            "-o lockproto=lock_nolock"
                          : "run this as root; see the kernel's log and the storage");
    co_return false;
  }
  if (!can->write_exclusive_registrants_only) {
    findings.problem("reservations", "the disk has no reservations of type 5 (write exclusive, registrants only)",
                     "use another disk, or one node with -o lockproto=lock_nolock");
    co_return false;
  }
  findings.good("reservations",
                fmt::format("type 5 is there; through a power loss of the disk: {}; PREEMPT AND ABORT: {}",
                            can->persist_through_power_loss ? "kept" : "not kept",
                            !can->preempt_and_abort   ? "it does not tell"
                            : *can->preempt_and_abort ? "yes"
                                                      : "no"));
  if (!can->persist_through_power_loss)
    findings.note("reservations", "keys do not survive a power loss of the disk (no APTPL)",
                  "nodes register again by themselves; see \"reservations\" in the operations guide");
  if (can->preempt_and_abort == false && !can->logical_unit_reset)
    findings.warn("reservations",
                  "what a fenced node has on its way cannot be aborted (no PREEMPT AND ABORT, no reset)",
                  "ask the storage's maker for PREEMPT AND ABORT");
  co_return true;
}

void tell_keys(const FencingState& state, Findings& findings, const std::string& device) {
  std::vector<std::string> stale;
  for (const FencingState::Key& key : state.keys)
    if (!key.node) stale.push_back(fmt::format("{:016x}", key.key.value));
  if (!stale.empty())
    findings.warn("keys", fmt::format("registered, and no node's: {}", fmt::join(stale, ", ")),
                  fmt::format("another cluster's, or left behind: corral fence clear --stale {}", device));
  if (!state.unregistered.empty())
    findings.warn("keys", fmt::format("without a key, fenced: {}", fmt::join(state.unregistered, ", ")),
                  "such a node comes back by itself, or has died: corral status");
  if (state.reservation.type != ReservationType::none &&
      state.reservation.type != ReservationType::write_exclusive_registrants_only)
    findings.problem("keys",
                     fmt::format("the disk has a reservation of type {}, which is not Corral's",
                                 static_cast<unsigned>(state.reservation.type)),
                     "somebody else uses this disk: find out who before anything else");
  if (stale.empty() && state.unregistered.empty())
    findings.good("keys", fmt::format("{} registered, each a node's", state.keys.size()));
}

/// How the cluster's settings want nodes to be fenced; reservations where there is no cluster yet.
Task<cluster::Settings> settings_of(Device& device) {
  const auto volume = co_await VolumeReader::open(device);
  if (!volume) co_return cluster::Settings{};
  const auto area = co_await cluster::ClusterArea::find(*volume);
  if (!area) co_return cluster::Settings{};
  const auto header = co_await area->read_header();
  co_return header ? header->settings : cluster::Settings{};
}

/// What is to be seen here where no disk fences.
void look_at_fallback(const cluster::Settings& settings, Findings& findings) {
  if (settings.fence == cluster::FencePolicy::manual) {
    findings.note("fencing", "by hand: when a node dies the others wait until an operator has said that it is off",
                  "\"Fencing without reservations\" in the operations guide");
    return;
  }
  for (const char* folder : {"/usr/sbin", "/usr/bin"}) {
    const std::string path = fmt::format("{}/{}", folder, settings.fence_agent);
    if (access(path.c_str(), X_OK) != 0) continue;
    findings.good("fencing",
                  fmt::format("the fence agent {} is there; whether it reaches the hosts was not tried", path));
    return;
  }
  findings.problem("fencing", fmt::format("this host has no fence agent {}", settings.fence_agent),
                   "install it (package fence-agents): without it this host cannot mount the volume");
}

Task<void> look_at_reservations(Executor& executor, Device& device, Findings& findings) {
  const cluster::Settings settings = co_await settings_of(device);
  if (device.life_locks() == nullptr && settings.fence != cluster::FencePolicy::scsi_pr)
    co_return look_at_fallback(settings, findings);
  const bool usable = co_await look_at_capabilities(device, findings);
  if (!usable) co_return;
  NullLogSink nobody;
  Random random(executor.clock().wall().nanoseconds);
  auto fencing = co_await DiskFencing::open(executor, device, executor.clock().wall(), random, Logger(nobody));
  if (fencing) {
    auto state = co_await fencing->read();
    if (state) co_return tell_keys(*state, findings, device.name());
    findings.problem("keys", state.error().describe(), "see the kernel's log and the storage");
    co_return;
  }
  // Without a cluster area every key is a stranger's.
  const auto keys = co_await device.reservations()->read_keys();
  if (keys && !keys->keys.empty())
    findings.warn("keys", fmt::format("{} are registered on a volume without a cluster", keys->keys.size()),
                  "somebody else uses this disk: find out who before mounting it");
}

Task<void> look_at_members(Executor& executor, Device& device, Findings& findings, std::vector<Peer>& living) {
  const auto volume = co_await VolumeReader::open(device);
  Result<cluster::ClusterArea> area = fail(ENOENT);
  if (volume) area = co_await cluster::ClusterArea::find(*volume);
  if (!area) co_return;
  cluster::Observer observer(executor, *area);
  const auto seen = co_await observer.look();
  if (!seen) {
    findings.problem("members", seen.error().describe(), "corral status tells more");
    co_return;
  }
  std::vector<std::string> lost;
  for (const cluster::ObservedNode& node : seen->nodes) {
    if (node.alive())
      living.push_back({.name = node.slot.name, .port = node.slot.port, .addresses = node.slot.addresses});
    if (node.state == cluster::NodeState::not_recovered) lost.push_back(node.slot.name);
  }
  for (const std::string& problem : seen->problems)
    findings.warn("cluster area", problem, "fsck.corral, with the volume unmounted everywhere");
  if (!lost.empty())
    findings.note("members", fmt::format("died and not recovered yet: {}", fmt::join(lost, ", ")),
                  "the others do it, or the next node that mounts the volume");
  if (living.empty()) co_return findings.good("members", "no node lives on the volume");
  const auto names = [&] {
    std::vector<std::string> list;
    for (const Peer& peer : living)
      list.push_back(peer.name);
    return list;
  }();
  if (seen->votes.quorate())
    findings.good("members", fmt::format("alive: {}", fmt::join(names, ", ")));
  else
    findings.problem("members", fmt::format("alive without quorum: {}", fmt::join(names, ", ")),
                     "corral status tells what is missing");
}

}  // namespace

std::optional<ClusterFacts> check_disk(const std::string& device, Findings& findings) {
  std::optional<ClusterFacts> facts;
  with_device(device, findings, true,
              [&](Executor& executor, Device& opened) { return look_at_disk(executor, opened, findings, facts); });
  return facts;
}

void check_reservations(const std::string& device, Findings& findings) {
  with_device(device, findings, false,
              [&](Executor& executor, Device& opened) { return look_at_reservations(executor, opened, findings); });
}

std::vector<Peer> check_members(const std::string& device, Findings& findings) {
  std::vector<Peer> living;
  with_device(device, findings, false,
              [&](Executor& executor, Device& opened) { return look_at_members(executor, opened, findings, living); });
  return living;
}

void to_json(nlohmann::json& json, const Peer& peer) {
  json = {{"name", peer.name}, {"port", peer.port}, {"addresses", peer.addresses}};
}

void from_json(const nlohmann::json& json, Peer& peer) {
  peer = {.name = json.at("name"), .port = json.at("port"), .addresses = json.at("addresses")};
}

void to_json(nlohmann::json& json, const ClusterFacts& facts) {
  json = {{"port", facts.port}, {"failure_timeout_ms", facts.failure_timeout_ms}, {"occupied", facts.occupied}};
}

void from_json(const nlohmann::json& json, ClusterFacts& facts) {
  facts = {.port = json.at("port"),
           .failure_timeout_ms = json.at("failure_timeout_ms"),
           .occupied = json.at("occupied").get<std::vector<Peer>>()};
}

}  // namespace corral::doctor
