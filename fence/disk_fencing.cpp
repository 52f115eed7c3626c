#include "fence/disk_fencing.h"

#include <algorithm>
#include <map>
#include <utility>

#include "cluster/membership_core.h"
#include "offline/volume_reader.h"

namespace corral {

namespace {
/// A number that no node has, for the key of the one who only administers.
constexpr NodeId kAdministrator{cluster::kSlots};
}  // namespace

DiskFencing::DiskFencing(Executor& executor, Device& device, cluster::ClusterArea area, cluster::Header header,
                         Member self, Logger log)
    : executor_(&executor),
      device_(&device),
      area_(area),
      observer_(executor, area),
      header_(std::move(header)),
      self_(self),
      log_(std::move(log)) {}

Task<Result<DiskFencing>> DiskFencing::open(Executor& executor, Device& device, WallTime now, Random& random,
                                            Logger log) {
  CO_TRY(VolumeReader volume, co_await VolumeReader::open(device));
  CO_TRY(cluster::ClusterArea area, co_await cluster::ClusterArea::find(volume));
  co_return co_await open_at(executor, area, now, random, std::move(log));
}

Task<Result<DiskFencing>> DiskFencing::open_at(Executor& executor, cluster::ClusterArea area, WallTime now,
                                               Random& random, Logger log) {
  CO_TRY(cluster::Header header, co_await area.read_header());
  const Member self{kAdministrator, cluster::new_incarnation(now, random)};
  co_return DiskFencing(executor, area.device(), area, std::move(header), self, std::move(log));
}

Task<Result<std::vector<cluster::Slot>>> DiskFencing::occupied_slots() {
  CO_TRY(std::vector<cluster::FoundSlot> found, co_await area_.read_slots(cluster::kSlots));
  std::vector<cluster::Slot> slots;
  for (cluster::FoundSlot& one : found)
    if (one.slot && one.slot->state != cluster::SlotState::free) slots.push_back(*std::move(one.slot));
  co_return slots;
}

/// EOPNOTSUPP where nodes are not fenced by reservations.
Task<Result<ReservationCapabilities>> DiskFencing::capabilities() {
  const cluster::FencePolicy policy = header_.settings.fence;
  if (device_->life_locks() == nullptr && policy != cluster::FencePolicy::scsi_pr)
    co_return fail(EOPNOTSUPP, "{}",
                   policy == cluster::FencePolicy::manual
                       ? "nodes of this cluster are fenced by hand: turn the host off, then corral fence ack"
                       : "nodes of this cluster are fenced by a fence agent, when they are dead or expelled");
  Result<ReservationCapabilities> can = fail(EOPNOTSUPP);
  if (Reservations* reservations = device_->reservations()) can = co_await reservations->report_capabilities();
  if (can && !can->write_exclusive_registrants_only) can = fail(EOPNOTSUPP);
  if (!can && can.error().code() == EOPNOTSUPP)
    co_return fail(EOPNOTSUPP, "{}",
                   device_->life_locks() != nullptr
                       ? "nodes on an image file are fenced by ending their processes on this host"
                       : "the disk has no persistent reservations of the type that fences nodes");
  co_return can;
}

Task<Result<FencingState>> DiskFencing::read() {
  FencingState state;
  CO_TRY(std::vector<cluster::Slot> slots, co_await occupied_slots());
  auto can = co_await capabilities();
  if (!can && can.error().code() != EOPNOTSUPP) co_return std::unexpected(can.error());
  if (!can) {
    const cluster::FencePolicy policy = header_.settings.fence;
    if (device_->life_locks() != nullptr)
      state.way = Way::life_locks;
    else if (policy == cluster::FencePolicy::manual)
      state.way = Way::manual;
    else if (policy == cluster::FencePolicy::agent)
      state.way = Way::agent;
    state.agent = header_.settings.fence_agent;
    co_return state;
  }
  state.way = Way::reservations;
  CO_TRY(RegisteredKeys registered, co_await device_->reservations()->read_keys());
  CO_TRY(state.reservation, co_await device_->reservations()->read_reservation());
  state.generation = registered.generation;
  std::map<ReservationKey, std::uint32_t> paths;
  for (ReservationKey key : registered.keys)
    ++paths[key];
  for (const auto& [key, count] : paths) {
    const auto slot = std::ranges::find(slots, key.value, &cluster::Slot::key);
    state.keys.push_back({key, count, slot != slots.end() ? std::optional(slot->name) : std::nullopt});
  }
  for (const cluster::Slot& slot : slots)
    if (!paths.contains(ReservationKey(slot.key))) state.unregistered.push_back(slot.name);
  co_return state;
}

/// A node of this host may be registered through the same nexus: its key must not be replaced.
Task<Result<DiskFencing::Access>> DiskFencing::register_here(ReservationCapabilities can) {
  Reservations& reservations = *device_->reservations();
  const ReservationKey own(fencing_key(header_.cluster, self_, FencingWay::reservations));
  Result<> done = co_await reservations.register_key({}, own, can.persist_through_power_loss);
  if (done) co_return Access{own, true};
  if (done.error().code() != EBADE) co_return std::unexpected(done.error());
  CO_TRY(RegisteredKeys registered, co_await reservations.read_keys());
  for (ReservationKey key : registered.keys) {
    // Changes nothing, and is refused where the key is not this nexus's.
    done = co_await reservations.register_key(key, key, can.persist_through_power_loss);
    if (done) co_return Access{key, false};
  }
  co_return std::unexpected(done.error());
}

Task<Result<>> DiskFencing::fence_as(Access access, ReservationCapabilities can, Member victim) {
  ReservationFencer fencer(*executor_, *device_->reservations(), can, nullptr, header_.cluster, log_);
  fencer.act_as(access.key);
  co_return co_await fencer.fence(victim);
}

/// As a node that leaves: the reservation does not end with the key. Where the fencing has reset the disk, some targets
/// (tgt) have a second registration under the key, of a session that is no more: another key removes it.
Task<Result<>> DiskFencing::leave(Access access, ReservationCapabilities can) {
  if (!access.is_ours) co_return Result<>{};
  Reservations& reservations = *device_->reservations();
  {
    ReservationFencer fencer(*executor_, reservations, can, nullptr, header_.cluster, log_);
    fencer.act_as(access.key);
    CO_TRY_VOID(co_await fencer.leave(false));
  }
  CO_TRY(RegisteredKeys registered, co_await reservations.read_keys());
  CO_TRY(ReservationState state, co_await reservations.read_reservation());
  if (!registered.contains(access.key) || state.holder == access.key) co_return Result<>{};
  const Member once_more{self_.node, self_.incarnation + 1};
  const ReservationKey other(fencing_key(header_.cluster, once_more, FencingWay::reservations));
  CO_TRY_VOID(co_await reservations.register_and_ignore(other, can.persist_through_power_loss));
  Result<> removed = co_await reservations.preempt(other, access.key);
  CO_TRY_VOID(co_await reservations.register_key(other, {}, can.persist_through_power_loss));
  co_return removed;
}

Task<Result<>> DiskFencing::fence(std::string node) {
  CO_TRY(ReservationCapabilities can, co_await capabilities());
  CO_TRY(std::vector<cluster::Slot> slots, co_await occupied_slots());
  const auto slot = std::ranges::find(slots, node, &cluster::Slot::name);
  if (slot == slots.end()) co_return fail(ENOENT, "no node \"{}\" uses the volume", node);
  if (slot->key != fencing_key(header_.cluster, slot->member(), FencingWay::reservations))
    co_return fail(EOPNOTSUPP, "node {} is not fenced by reservations on this device", node);
  CO_TRY(Access access, co_await register_here(can));
  Result<> done;
  if (access.key.value == slot->key)
    done = fail(EINVAL, "node {} reaches the disk the same way as this program: fence it from another host", node);
  else
    done = co_await fence_as(access, can, slot->member());
  Result<> left = co_await leave(access, can);
  co_return done ? left : done;
}

Task<Result<cluster::ObservedNode>> DiskFencing::find_dead(std::string node) {
  // One that remembers a heartbeat would take it for alive for a while.
  cluster::Observer observer(*executor_, area_);
  CO_TRY(cluster::Observation seen, co_await observer.look());
  const auto found = std::ranges::find_if(seen.nodes, [&](const cluster::ObservedNode& one) {
    return one.slot.name == node && one.slot.state != cluster::SlotState::free;
  });
  if (found == seen.nodes.end())
    co_return fail(ENOENT, "no node \"{}\" uses the volume: nothing of it is to be fenced", node);
  const cluster::FencingWay way = cluster::way_of_key(found->slot.key);
  if (way != cluster::FencingWay::manual && way != cluster::FencingWay::agent)
    co_return fail(EOPNOTSUPP, "node {} is fenced by {}, and nobody's word is needed for that", node,
                   way == cluster::FencingWay::life_locks ? "the end of its process" : "the disk's reservations");
  if (found->alive())
    co_return fail(EBUSY,
                   "node {} lives, as its heartbeat on the disk shows ({}): turn its host off, or unmount the volume "
                   "there; when it has been silent for the failure timeout, say so again",
                   node, cluster::name_of(found->state));
  if (!found->admitted.value_or(true)) co_return fail(EALREADY, "node {} is acknowledged already", node);
  co_return *found;
}

Task<Result<>> DiskFencing::acknowledge(cluster::ObservedNode dead) {
  CO_TRY(const cluster::FoundSlot now, co_await area_.read_slot(dead.slot.id));
  if (!now.slot || now.slot->member() != dead.slot.member() || now.slot->heartbeat != dead.slot.heartbeat)
    co_return fail(EBUSY, "node {} lives again, or was recovered meanwhile: nothing was recorded", dead.slot.name);
  CO_TRY(cluster::Header header, co_await area_.read_header());
  header.acknowledged[dead.slot.id.value] = {dead.slot.incarnation, dead.slot.heartbeat};
  co_return co_await write_header(std::move(header));
}

Task<Result<>> DiskFencing::expel(std::string node) {
  CO_TRY(cluster::Header header, co_await area_.read_header());
  if (std::ranges::find(header.expelled, node) != header.expelled.end()) co_return Result<>{};
  header.expelled.push_back(std::move(node));
  CO_TRY_VOID(cluster::check_expelled(header.expelled));
  co_return co_await write_header(std::move(header));
}

Task<Result<>> DiskFencing::let_in(std::string node) {
  CO_TRY(cluster::Header header, co_await area_.read_header());
  if (std::erase(header.expelled, node) == 0) co_return fail(ENOENT, "node \"{}\" is not expelled", node);
  co_return co_await write_header(std::move(header));
}

/// Where there is a reservation only who is registered writes.
Task<Result<>> DiskFencing::write_header(cluster::Header header) {
  auto can = co_await capabilities();
  if (!can && can.error().code() != EOPNOTSUPP) co_return std::unexpected(can.error());
  bool reserved = false;
  if (can) {
    CO_TRY(const ReservationState state, co_await device_->reservations()->read_reservation());
    reserved = state.type != ReservationType::none;
  }
  if (!reserved) {
    CO_TRY(header_, co_await area_.write_header(std::move(header)));
    co_return Result<>{};
  }
  CO_TRY(Access access, co_await register_here(*can));
  Result<cluster::Header> written = co_await area_.write_header(std::move(header));
  Result<> left = co_await leave(access, *can);
  if (!written) co_return std::unexpected(written.error());
  header_ = *std::move(written);
  co_return left;
}

/// The administrator says that nothing of them is on its way any more.
Task<Result<>> DiskFencing::forget_fenced_lives() {
  CO_TRY(std::vector<cluster::FoundSlot> found, co_await area_.read_slots(cluster::kSlots));
  for (cluster::FoundSlot& one : found) {
    if (!one.slot || one.slot->state != cluster::SlotState::free || one.slot->fenced == cluster::FencedLife::none)
      continue;
    one.slot->fenced = cluster::FencedLife::none;
    CO_TRY_VOID(co_await area_.write_slot(*std::move(one.slot)));
  }
  co_return Result<>{};
}

Task<Result<std::vector<ReservationKey>>> DiskFencing::clear_stale() {
  CO_TRY(ReservationCapabilities can, co_await capabilities());
  CO_TRY(std::vector<cluster::Slot> slots, co_await occupied_slots());
  CO_TRY(FencingState state, co_await read());
  std::vector<ReservationKey> stale;
  for (const FencingState::Key& key : state.keys) {
    const bool is_kept = key.key == state.reservation.holder && !slots.empty();
    if (!key.node && !is_kept) stale.push_back(key.key);
  }
  if (stale.empty()) co_return stale;
  CO_TRY(Access access, co_await register_here(can));
  Result<> done;
  for (ReservationKey key : stale) {
    if (done && key != access.key) done = co_await device_->reservations()->preempt(access.key, key);
  }
  if (done && slots.empty()) done = co_await forget_fenced_lives();
  // What this nexus was registered under may be stale itself.
  if (std::ranges::find(stale, access.key) != stale.end()) access.is_ours = true;
  Result<> left = co_await leave(access, can);
  if (!done) co_return std::unexpected(done.error());
  if (!left) co_return std::unexpected(left.error());
  co_return stale;
}

}  // namespace corral
