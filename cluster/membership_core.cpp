#include "cluster/membership_core.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/planted_bug.h"

namespace corral::cluster {

namespace {
constexpr unsigned kIncarnationRandomBits = 20;
}

Error expelled(const std::string& name) {
  return Error(EPERM, fmt::format("an operator has expelled node {} from the cluster; \"corral node admit\" lets it in "
                                  "again",
                                  name));
}

Incarnation new_incarnation(WallTime now, Random& random) {
  const auto milliseconds =
      static_cast<std::uint64_t>(std::max<std::int64_t>(now.seconds, 1)) * 1000 + now.nanoseconds / 1'000'000;
  return Incarnation(milliseconds << kIncarnationRandomBits | random.below(std::uint64_t{1} << kIncarnationRandomBits));
}

MembershipCore::MembershipCore(Header header, NodeOptions options, Random random)
    : header_(header),
      options_(std::move(options)),
      timing_(Timing::of(header_.settings)),
      random_(random),
      monitor_(timing_) {
  CHECK_INVARIANT(is_valid_node_name(options_.name) && options_.journals > 0 && options_.incarnation);
  options_.journals = std::min(options_.journals, kSlots);
}

Actions MembershipCore::take() {
  return std::exchange(actions_, {});
}

void MembershipCore::end(MembershipEnded::Why why, Error reason) {
  if (phase_ == Phase::ended) return;
  phase_ = Phase::ended;
  leads_ = false;
  change_.reset();
  actions_.push_back(MembershipEnded{why, std::move(reason)});
}

void MembershipCore::end_if_fenced(const Error& error) {
  if (error.code() == EBADE) end(MembershipEnded::Why::lost, error.within("this node was fenced"));
}

void MembershipCore::send(Member to, MembershipMessage message) {
  if (hears(to)) actions_.push_back(SendMessage{to, std::move(message)});
}

Actions MembershipCore::scanned(const Scan& scan) {
  if (phase_ == Phase::ended) return {};
  monitor_.scanned(scan.began, scan.ended, scan.slots);
  if (scan.record.generation >= record_.generation) record_ = scan.record;
  if (scan.expelled) expelled_ = {scan.expelled->begin(), scan.expelled->end()};
  if (expelled_.contains(options_.name)) {
    const bool was_member = phase_ == Phase::member;
    if (!was_member && self_.incarnation) actions_.push_back(FreeSlot{self_});
    end(was_member ? MembershipEnded::Why::lost : MembershipEnded::Why::refused, expelled(options_.name));
    return take();
  }
  if (!first_scan_) first_scan_ = scan.began;
  std::erase_if(refused_, [this](const Member& member) { return !monitor_.holds(member); });
  wanted_fenced_.clear();
  notice_writing_again(scan);
  for (const Member& peer : connected_)
    send(peer, {.type = MembershipMessage::Type::ping});
  switch (phase_) {
    case Phase::starting:
      look_for_slot(scan);
      break;
    case Phase::claiming:
      check_claim(scan);
      break;
    case Phase::asking:
      ask(scan);
      break;
    case Phase::electing:
      elect(scan);
      break;
    case Phase::member:
      check_record(scan);
      if (phase_ != Phase::member) break;
      notice_recovered();
      arbitrate(scan);
      lead(scan);
      break;
    case Phase::ended:
      break;
  }
  return take();
}

/// What the recorded view says about this member.
void MembershipCore::check_record(const Scan& scan) {
  const View& recorded = scan.record.view;
  // A reading from before the installation may still give the view before it.
  if (scan.began < installed_) return;
  if (recorded.number > view_.number) {
    expected_nodes_ = scan.record.expected_nodes;
    if (recorded.contains(self_)) return install(scan.ended, recorded, false);
    if (leaving_) {
      actions_.push_back(FreeSlot{self_});
      return end(MembershipEnded::Why::left, Error(0, "left the cluster"));
    }
    return end(MembershipEnded::Why::lost, Error(ESTALE, fmt::format("{} was removed from the cluster by view {}",
                                                                     self_.describe(), recorded.number.value)));
  }
  // An old or foreign record in place of ours is a claim that came late: nobody installs it. The leader writes anew.
  if (recorded.number != view_.number || recorded.members != view_.members) {
    broken_ = true;
    return;
  }
  confirmed_ = scan.began;
  expected_nodes_ = scan.record.expected_nodes;
}

void MembershipCore::notice_recovered() {
  // By this node. The slot may be another's already, without ever having been seen free.
  std::erase_if(freeing_, [this](const Member& member) {
    if (monitor_.holds(member)) return false;
    if (awaiting_recovery_.erase(member) > 0) actions_.push_back(NodeRecovered{member});
    return true;
  });
  for (auto gone = awaiting_recovery_.begin(); gone != awaiting_recovery_.end();) {
    const Slot* slot = monitor_.slot(gone->node);
    // A free slot tells of the life that had it last: one that was freed for an earlier life was freed too late.
    const bool freed = slot != nullptr && monitor_.last_scan() >= installed_ && slot->state == SlotState::free &&
                       slot->incarnation >= gone->incarnation;
    // Or it turns out to be on its way into the cluster itself (see earlier_members()). Another life there may have
    // taken the slot of one that it thought dead, whose journal nobody has replayed.
    const bool joiner = joins(gone->node) && slot->member() == *gone;
    const bool recovered = freed || view_.find(gone->node).has_value() || joiner;
    if (recovered) actions_.push_back(NodeRecovered{*gone});
    gone = recovered ? awaiting_recovery_.erase(gone) : std::next(gone);
  }
}

bool MembershipCore::is_expelled(Member member) const {
  return monitor_.holds(member) && expelled_.contains(monitor_.slot(member.node)->name);
}

/// Of the view; nobody waits for their votes.
std::size_t MembershipCore::expelled_members() const {
  return static_cast<std::size_t>(
      std::ranges::count_if(view_.members, [this](const Member& member) { return is_expelled(member); }));
}

/// Gives up what was claimed and looks for another slot.
void MembershipCore::restart() {
  phase_ = Phase::starting;
  connected_.clear();
}

/// True if the slot's node is known to be on its way into the cluster. A member's slot says so only from its first
/// heartbeat as such on, so one that is not seen to live may have been a member.
bool MembershipCore::joins(NodeId node) const {
  const Slot* slot = monitor_.slot(node);
  return slot != nullptr && slot->state == SlotState::joining && monitor_.life(node) == Life::alive;
}

/// For a node's first view: whose slots show that they were members, or may have been, and are none any more.
std::vector<Member> MembershipCore::earlier_members(const View& view) const {
  std::vector<Member> earlier;
  for (const Slot* slot : monitor_.occupied()) {
    if (!view.find(slot->id) && !joins(slot->id)) earlier.push_back(slot->member());
  }
  return earlier;
}

void MembershipCore::install(Time now, View view, bool first) {
  CHECK_INVARIANT(view.number > view_.number && view.contains(self_) && view.well_formed());
  ViewInstalled event{.view = view, .gone = {}, .first = first};
  if (!view_.number) event.gone = earlier_members(view);
  for (const Member& member : view_.members) {
    if (!view.contains(member)) event.gone.push_back(member);
  }
  awaiting_recovery_.insert(event.gone.begin(), event.gone.end());
  replaying_all_ = first;
  view_ = std::move(view);
  phase_ = Phase::member;
  installed_ = now;
  promised_ = std::max(promised_, view_.number);
  broken_ = false;
  outvoted_ = false;
  split_since_.reset();
  change_.reset();
  std::erase_if(joiners_, [this](const auto& joiner) { return view_.contains(joiner.first); });
  std::erase_if(leavers_, [this](const Member& leaver) { return !view_.contains(leaver); });
  for (auto& [member, joiner] : joiners_)
    joiner.admitted = false;
  // A connection that is missing between members of the new view has broken before it: told once more.
  for (const Member& member : view_.members) {
    if (member != self_ && !hears(member)) broken_ = true;
  }
  actions_.push_back(std::move(event));
}

Actions MembershipCore::heartbeat_written(Time began, const Result<>& result) {
  if (phase_ == Phase::ended) return {};
  if (result) {
    heartbeat_begun_ = began;
  } else {
    end_if_fenced(result.error());
  }
  return take();
}

std::optional<Slot> MembershipCore::next_heartbeat() {
  if (phase_ == Phase::member) return own_slot(SlotState::member);
  if (phase_ == Phase::asking || phase_ == Phase::electing) return own_slot(SlotState::joining);
  return std::nullopt;
}

Slot MembershipCore::own_slot(SlotState state) {
  Slot slot{.id = self_.node,
            .cluster = header_.cluster,
            .state = state,
            .incarnation = self_.incarnation,
            .heartbeat = ++heartbeat_,
            .view = view_.number,
            .protocol_version = options_.protocol_version,
            .health = options_.health,
            .fenced = fenced_before_,
            .port = options_.port,
            .addresses = options_.addresses,
            .name = options_.name,
            .hears = heard()};
  return slot;
}

std::bitset<kSlots> MembershipCore::heard() const {
  std::bitset<kSlots> nodes;
  for (const Member& peer : connected_)
    nodes.set(peer.node.value);
  return nodes;
}

bool MembershipCore::may_serve(Time now) const {
  if (phase_ == Phase::member && planted(PlantedBug::unlimited_lease)) return true;
  if (phase_ != Phase::member || outvoted_ || leaving_ || !heartbeat_begun_ || !confirmed_) return false;
  return now < lease_end();
}

Time MembershipCore::lease_end() const {
  if (!heartbeat_begun_ || !confirmed_) return {};
  return std::min(*heartbeat_begun_, *confirmed_) + timing_.lease;
}

Votes MembershipCore::votes() const {
  return count_votes(header_.settings.quorum, static_cast<std::uint32_t>(view_.members.size()),
                     std::max(expected_nodes_, static_cast<std::uint32_t>(view_.members.size())));
}

Actions MembershipCore::connected(Member peer) {
  connected_.insert(peer);
  refused_.erase(peer);
  return take();
}

Actions MembershipCore::disconnected(Member peer) {
  connected_.erase(peer);
  if (view_.contains(peer)) broken_ = true;
  if (change_ && !change_->recording && std::ranges::find(change_->members, peer) != change_->members.end())
    change_->unanswered.insert(peer);
  return take();
}

Actions MembershipCore::refused(Member peer) {
  if (phase_ != Phase::member || hears(peer) || !refused_.insert(peer).second) return {};
  actions_.push_back(LookAgain{});
  return take();
}

/// Shorter while there is a death to deal with that is known of already.
Duration MembershipCore::scan_interval() const {
  constexpr int kHurry = 5;
  const bool hurry = phase_ == Phase::member && std::ranges::any_of(refused_, [this](const Member& member) {
                       return view_.contains(member) || awaiting_recovery_.contains(member);
                     });
  return hurry ? timing_.heartbeat_interval / kHurry : timing_.heartbeat_interval;
}

Actions MembershipCore::received(Time now, Member from, const MembershipMessage& message) {
  using Type = MembershipMessage::Type;
  if (phase_ == Phase::ended || phase_ == Phase::starting || phase_ == Phase::claiming) return {};
  switch (message.type) {
    case Type::join:
      joiners_[from].version = message.number;
      break;
    case Type::refuse:
      if (phase_ != Phase::asking || !record_.view.contains(from)) break;
      if (message.number == 1) {
        restart();
        break;
      }
      actions_.push_back(FreeSlot{self_});
      end(MembershipEnded::Why::refused, Error(EPERM, message.text));
      break;
    case Type::leave:
      if (view_.contains(from)) leavers_.insert(from);
      break;
    case Type::reform:
      if (view_.contains(from) && message.number == view_.number.value) broken_ = true;
      break;
    case Type::prepare:
      take_prepare(from, message);
      break;
    case Type::prepared:
      if (!change_ || change_->recording || change_->number.value != message.number) break;
      if (change_->unanswered.erase(from) > 0 && change_->unanswered.empty()) actions_.push_back(LookAgain{});
      break;
    case Type::commit:
      if (promised_.value == message.number && promised_to_ == from && promised_ > view_.number)
        install(now, {.number = promised_, .members = promised_members_}, false);
      break;
    case Type::ping:
      break;
  }
  return take();
}

void MembershipCore::take_prepare(Member from, const MembershipMessage& message) {
  const ViewNumber number(message.number);
  const View proposed{.number = number, .members = message.members};
  if (!proposed.contains(self_) || number <= view_.number) return;
  // A member follows members; a joiner whoever leads the recorded view.
  if (phase_ == Phase::member ? !view_.contains(from) : !record_.view.contains(from)) return;
  if (phase_ == Phase::electing) return;
  const bool again = number == promised_ && promised_to_ == from && promised_members_ == message.members;
  if (number <= promised_ && !again) return;
  promised_ = number;
  promised_to_ = from;
  promised_members_ = message.members;
  change_.reset();
  send(from, {.type = MembershipMessage::Type::prepared, .number = message.number});
}

Actions MembershipCore::leave() {
  if (phase_ == Phase::ended) return {};
  if (phase_ == Phase::member) {
    leaving_ = true;
    leavers_.insert(self_);
    return {};
  }
  if (phase_ != Phase::starting) actions_.push_back(FreeSlot{self_});
  end(MembershipEnded::Why::left, Error(0, "left before it was a member"));
  return take();
}

}  // namespace corral::cluster
