#include "cluster/membership.h"

#include <utility>

namespace corral::cluster {

namespace {
/// What fails in the same way again and again is said so often.
constexpr Duration kWarningInterval = std::chrono::minutes(1);

/// For a node that only logs: the names of what ended it.
const char* words_for(MembershipEnded::Why why) {
  switch (why) {
    case MembershipEnded::Why::refused:
      return "refused";
    case MembershipEnded::Why::lost:
      return "lost";
    case MembershipEnded::Why::left:
      return "left";
  }
  return "";
}
}  // namespace

Membership::Membership(Environment environment, Header header, NodeOptions options, Random random)
    : environment_(std::move(environment)),
      core_(header, std::move(options), random),
      look_again_(environment_.executor),
      scanned_(environment_.executor),
      own_slot_(environment_.executor),
      scope_(environment_.executor) {
  scope_.spawn(scan_loop());
  scope_.spawn(heartbeat_loop());
}

Membership::~Membership() {
  if (link_ != nullptr) link_->attach(LinkChannel::membership, nullptr);
}

void Membership::recovered(Member dead) {
  perform(core_.recovered(dead));
}

void Membership::leave() {
  perform(core_.leave());
}

void Membership::received(Member from, std::span<const std::byte> bytes) {
  Result<MembershipMessage> message = decode_membership(bytes);
  if (!message) {
    environment_.log.warning("{}: {}", from.describe(), message.error().describe());
    return;
  }
  perform(core_.received(environment_.executor.now(), from, *message));
}

void Membership::connected(Member peer) {
  perform(core_.connected(peer));
}

void Membership::disconnected(Member peer) {
  perform(core_.disconnected(peer));
}

void Membership::refused(Member peer) {
  Actions actions = core_.refused(peer);
  if (!actions.empty()) environment_.log.info("membership {}: nothing listens at its port any more", peer.describe());
  perform(std::move(actions));
}

void Membership::perform(Actions actions) {
  for (Action& action : actions)
    perform_one(std::move(action));
}

void Membership::perform_one(Action action) {
  if (auto* claim = std::get_if<ClaimSlot>(&action)) {
    scope_.spawn(carry_out(std::move(*claim)));
  } else if (auto* open = std::get_if<OpenLink>(&action)) {
    if (link_ != nullptr) environment_.links.close();
    link_ = &environment_.links.open(open->self);
    link_->attach(LinkChannel::membership, this);
    peers_.clear();
    update_peers();
  } else if (auto* message = std::get_if<SendMessage>(&action)) {
    // A message that is lost is sent again by the next scan.
    if (link_ != nullptr) link_->send(message->to, LinkChannel::membership, encode(message->message));
  } else if (auto* fence = std::get_if<FenceNode>(&action)) {
    scope_.spawn(carry_out(*fence));
  } else if (auto* record = std::get_if<RecordView>(&action)) {
    scope_.spawn(carry_out(std::move(*record)));
  } else if (auto* slot = std::get_if<FreeSlot>(&action)) {
    scope_.spawn(carry_out(*slot));
  } else if (std::get_if<LookAgain>(&action) != nullptr) {
    look_again_.set();
  } else if (auto* installed = std::get_if<ViewInstalled>(&action)) {
    environment_.log.info("membership view={} members={} first={}", installed->view.number.value,
                          installed->view.members.size(), installed->first);
    environment_.user.view_installed(*installed);
  } else if (auto* recover = std::get_if<RecoverNode>(&action)) {
    environment_.log.info("membership node={} fenced, its journal may be replayed", recover->member.node.value);
    environment_.user.recover(recover->member);
  } else if (auto* done = std::get_if<NodeRecovered>(&action)) {
    environment_.user.node_recovered(done->member);
  } else if (auto* ended = std::get_if<MembershipEnded>(&action)) {
    scope_.spawn(tell(std::move(*ended)));
  }
}

Task<void> Membership::tell(MembershipEnded event) {
  // The own slot is freed first, where it is to be freed.
  Mutex::Guard guard = co_await own_slot_.lock();
  if (event.why != MembershipEnded::Why::lost) {
    if (auto left = co_await give_key_up(); !left)
      environment_.log.warning("membership cannot give its key up: {}", left.error().describe());
  }
  guard.release();
  // Not from within the link's own call.
  co_await environment_.executor.yield();
  if (link_ != nullptr) {
    std::exchange(link_, nullptr)->attach(LinkChannel::membership, nullptr);
    environment_.links.close();
  }
  environment_.log.info("membership {}: {}", words_for(event.why), event.reason.describe());
  environment_.user.ended(event);
}

/// The slots are read anew: of nodes that leave at the same time, whose slots are free before they look, one at least
/// finds itself alone.
Task<Result<>> Membership::give_key_up() {
  auto slots = co_await environment_.area.read_slots(core_.journals());
  const bool alone =
      slots && std::ranges::none_of(*slots, [this](const FoundSlot& found) {
        return !found.slot || (found.slot->state != SlotState::free && found.slot->member() != core_.self());
      });
  const bool fenced_may_write = alone && std::ranges::any_of(*slots, [](const FoundSlot& found) {
                                  return found.slot->fenced != FencedLife::none;
                                });
  if (fenced_may_write) co_return co_await environment_.fencer.leave_in_force();
  co_return co_await environment_.fencer.leave(alone);
}

Task<Result<Scan>> Membership::scan() {
  Scan scan{.began = environment_.executor.now(), .ended = {}, .record = {}, .slots = {}};
  // The view first: a slot that a view contains was written before it.
  CO_TRY(ClusterArea::HeaderAndView read, co_await environment_.area.read_header_and_view());
  CO_TRY(scan.record, std::move(read.view));
  if (read.header) scan.expelled = std::move(read.header->expelled);
  CO_TRY(scan.slots, co_await environment_.area.read_slots(core_.journals()));
  scan.ended = environment_.executor.now();
  co_return scan;
}

Task<void> Membership::scan_loop() {
  while (core_.phase() != MembershipCore::Phase::ended) {
    const Time begin = environment_.executor.now();
    look_again_.reset();
    Result<Scan> seen = co_await scan();
    if (seen) {
      perform(core_.scanned(*seen));
      note_suspects();
      update_peers();
      looked_ = begin;
      environment_.user.lease_renewed();
    } else {
      environment_.log.warning("membership cannot read the cluster area: {}", seen.error().describe());
    }
    scanned_.notify_all();
    co_await look_again_.wait_until(begin + core_.scan_interval());
  }
  scanned_.notify_all();
}

/// After a silence for which others may have fenced this node, its slot may be another's, and where the target has
/// forgotten all keys meanwhile nothing would keep a heartbeat from it: the area is looked at before it is written to.
Task<void> Membership::look_first() {
  std::optional<Time> silent_since = core_.last_heartbeat();
  while (silent_since && core_.phase() != MembershipCore::Phase::ended) {
    const Time asked = environment_.executor.now();
    if (asked - *silent_since < core_.timing().failure_timeout) break;
    look_again_.set();
    while (looked_ < asked && core_.phase() != MembershipCore::Phase::ended)
      co_await scanned_.wait();
    silent_since = asked;
  }
}

Task<void> Membership::heartbeat_loop() {
  std::uint32_t cycle_ms = 0;
  while (core_.phase() != MembershipCore::Phase::ended) {
    const Time next = environment_.executor.now() + core_.timing().heartbeat_interval;
    co_await look_first();
    {
      Mutex::Guard guard = co_await own_slot_.lock();
      const Time began = environment_.executor.now();
      if (std::optional<Slot> slot = core_.next_heartbeat()) {
        const Member written = slot->member();
        slot->key = environment_.fencer.key_of(written);
        slot->cycle_ms = cycle_ms;
        const Result<> result = co_await environment_.area.write_slot(*std::move(slot));
        cycle_ms = static_cast<std::uint32_t>((environment_.executor.now() - began) / std::chrono::milliseconds(1));
        if (core_.self() == written) perform(core_.heartbeat_written(began, result));
        environment_.user.lease_renewed();
      }
    }
    co_await environment_.executor.sleep_until(next);
  }
}

Task<Result<>> Membership::write_claim(ClaimSlot action) {
  Mutex::Guard guard = co_await own_slot_.lock();
  CO_TRY_VOID(co_await environment_.fencer.admit(action.slot.member()));
  if (action.victim) CO_TRY_VOID(co_await environment_.fencer.fence(*action.victim));
  action.slot.key = environment_.fencer.key_of(action.slot.member());
  co_return co_await environment_.area.write_slot(action.slot);
}

void Membership::warn(const std::string& text) {
  const Time now = environment_.executor.now();
  std::erase_if(warned_, [now](const auto& said) { return now - said.second >= kWarningInterval; });
  if (warned_.try_emplace(text, now).second) environment_.log.warning("{}", text);
}

Task<void> Membership::carry_out(ClaimSlot action) {
  const Result<> result = co_await write_claim(std::move(action));
  if (!result) warn(fmt::format("membership cannot claim a slot: {}", result.error().describe()));
  perform(core_.claimed(environment_.executor.now(), result));
}

void Membership::note_suspects() {
  // One whose heart beats again is nobody's to fence.
  std::erase_if(not_fenced_, [this](const auto& one) { return !core_.wants_fenced(one.first); });
  for (const Member& member : core_.view().members) {
    if (!core_.monitor().holds(member) || core_.monitor().life(member.node) == Life::alive)
      suspected_.erase(member);
    else
      suspected_.try_emplace(member, environment_.executor.now());
  }
}

Task<void> Membership::carry_out(FenceNode action) {
  const Time now = environment_.executor.now();
  auto [times, is_first] = fencing_.try_emplace(action.victim);
  if (is_first) {
    const auto suspected = suspected_.find(action.victim);
    times->second = {.last_heard = now - core_.monitor().silence(action.victim.node),
                     .suspected = suspected != suspected_.end() ? suspected->second : now,
                     .decided = now};
    environment_.log.info("membership fencing {}", action.victim.describe());
  }
  const Result<> result = co_await environment_.fencer.fence(action.victim);
  not_fenced_.erase(action.victim);
  if (!result) {
    not_fenced_[action.victim] = result.error().describe();
    warn(fmt::format("membership cannot fence {}: {}", action.victim.describe(), result.error().describe()));
  } else if (auto begun = fencing_.extract(action.victim)) {
    suspected_.erase(action.victim);
    begun.mapped().fenced = environment_.executor.now();
    environment_.user.fenced(action.victim, begun.mapped());
  }
  perform(core_.fenced(environment_.executor.now(), action.victim, result));
}

Task<void> Membership::carry_out(RecordView action) {
  const Result<ViewRecord> result = co_await environment_.area.write_view(std::move(action.record));
  if (!result) environment_.log.warning("membership cannot record a view: {}", result.error().describe());
  perform(core_.recorded(environment_.executor.now(), result));
}

Task<Result<>> Membership::free_slot(FreeSlot action) {
  const Member member = action.member;
  Mutex::Guard guard = co_await own_slot_.lock();
  CO_TRY(FoundSlot found, co_await environment_.area.read_slot(member.node));
  // A later life's is not touched; an earlier life's that was freed too late, over this one's, is put right.
  const bool freed_for_earlier =
      found.slot && found.slot->state == SlotState::free && found.slot->incarnation < member.incarnation;
  if (found.slot && found.slot->incarnation != member.incarnation && !freed_for_earlier) co_return Result<>{};
  CO_TRY(Header header, co_await environment_.area.read_header());
  Slot slot{.id = member.node, .cluster = header.cluster, .incarnation = member.incarnation};
  if (found.slot) slot.name = found.slot->name;
  if (found.slot && found.slot->fenced == FencedLife::earlier)
    slot.fenced = FencedLife::earlier;
  else if (action.may_write)
    slot.fenced = FencedLife::last;
  co_return co_await environment_.area.write_slot(slot);
}

Task<void> Membership::carry_out(FreeSlot action) {
  const Result<> result = co_await free_slot(action);
  if (!result)
    environment_.log.warning("membership cannot free the slot of {}: {}", action.member.describe(),
                             result.error().describe());
  core_.slot_freed(action.member, result);
}

/// Everybody whose slot is in use, this life excepted.
void Membership::update_peers() {
  if (link_ == nullptr) return;
  std::vector<Peer> peers;
  for (const Slot* slot : core_.monitor().occupied()) {
    if (slot->member() != core_.self()) peers.push_back({slot->member(), slot->addresses, slot->port});
  }
  if (peers == peers_) return;
  peers_ = peers;
  environment_.links.set_peers(std::move(peers));
}

}  // namespace corral::cluster
