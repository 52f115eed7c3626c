// Arbitration among members, and what the leader does: let in, take out, fence, hand over to recovery.
#include <algorithm>
#include <iterator>

#include "base/check.h"
#include "base/planted_bug.h"
#include "cluster/membership_core.h"

namespace corral::cluster {

using Type = MembershipMessage::Type;

namespace {
/// A change that was not answered for so many scans was promised to another leader, or lost: a new number is tried.
constexpr std::uint32_t kRoundsPerChange = 3;

bool contains(const std::vector<Member>& members, Member member) {
  return std::ranges::find(members, member) != members.end();
}
}  // namespace

/// True when the node's process has ended: its host refuses connections, and a living one, which something on the way
/// may keep from being reached, would have written another heartbeat.
bool MembershipCore::process_ended(Member member) const {
  return refused_.contains(member) && !hears(member) && monitor_.holds(member) &&
         monitor_.silence(member.node) >= timing_.ended_after;
}

/// True when its node has another slot by now: its next life does not begin before the last has ended.
bool MembershipCore::is_back(Member member) const {
  if (!monitor_.holds(member)) return false;
  const std::string& name = monitor_.slot(member.node)->name;
  return std::ranges::any_of(monitor_.occupied(),
                             [&](const Slot* other) { return other->id != member.node && other->name == name; });
}

bool MembershipCore::is_dead(Member member) const {
  return monitor_.life(member.node) == Life::dead || process_ended(member);
}

/// True when the node can write nothing more and, as it has ended or its lease has run out, serves nothing more.
bool MembershipCore::is_gone(Member member) const {
  auto fenced = fenced_.find(member);
  if (fenced == fenced_.end() || monitor_.last_scan() <= fenced->second.since) return false;
  // Where another wrote over its slot nothing tells when it was last heard.
  const Duration silence =
      monitor_.holds(member) ? monitor_.silence(member.node) : monitor_.last_scan() - fenced->second.since;
  return silence >= timing_.failure_timeout || process_ended(member) || planted(PlantedBug::impatient_leader);
}

void MembershipCore::fence(Member victim) {
  CHECK_INVARIANT(victim != self_);
  if (fenced_.contains(victim)) return;
  wanted_fenced_.insert(victim);
  if (fencing_.insert(victim).second) actions_.push_back(FenceNode{victim});
}

bool MembershipCore::wants_fenced(Member member) const {
  return fencing_.contains(member) || wanted_fenced_.contains(member);
}

/// Where an operator or an agent was wrong, or a registration was long under way, a life that can write nothing more
/// writes again, and is to be fenced once more, should it come to that. Between the reading before the fencing and the
/// first one after it a last heartbeat may have landed.
void MembershipCore::notice_writing_again(const Scan& scan) {
  for (auto one = fenced_.begin(); one != fenced_.end();) {
    auto& [member, fenced] = *one;
    bool writes = false;
    if (scan.began > fenced.since && monitor_.holds(member)) {
      const std::uint64_t heartbeat = monitor_.slot(member.node)->heartbeat;
      writes = fenced.heartbeat.value_or(heartbeat) != heartbeat;
      fenced.heartbeat = heartbeat;
    }
    one = writes ? fenced_.erase(one) : std::next(one);
  }
}

Actions MembershipCore::fenced(Time now, Member victim, const Result<>& result) {
  fencing_.erase(victim);
  if (phase_ == Phase::ended) return {};
  if (result) {
    fenced_[victim] = {.since = now};
    actions_.push_back(LookAgain{});
  } else {
    end_if_fenced(result.error());
  }
  // Other failures: the next scan asks again.
  return take();
}

/// Members whose heartbeats go on, with what they hear; this node from its own knowledge.
std::vector<Voter> MembershipCore::living_voters() const {
  std::vector<Voter> voters;
  for (const Member& member : view_.members) {
    const Slot* slot = monitor_.slot(member.node);
    if (member == self_) {
      voters.push_back({.node = self_.node, .health = options_.health, .hears = heard()});
    } else if (!is_dead(member) && !is_expelled(member)) {
      // Where another wrote over its slot, until its next heartbeat, it is not known to hear anybody.
      voters.push_back(monitor_.holds(member) ? Voter{member.node, slot->health, slot->hears} : Voter{member.node});
    }
  }
  return voters;
}

bool MembershipCore::any_late() const {
  return std::ranges::any_of(view_.members, [this](const Member& member) {
    return member != self_ && monitor_.life(member.node) == Life::late && !process_ended(member) &&
           !is_expelled(member);
  });
}

/// Decides who of the members may go on, and whether this node leads them.
void MembershipCore::arbitrate(const Scan& scan) {
  const std::vector<Voter> voters = living_voters();
  std::vector<NodeId> nodes;
  nodes.reserve(voters.size());
  for (const Voter& voter : voters)
    nodes.push_back(voter.node);
  if (all_hear_each_other(voters)) {
    split_since_.reset();
  } else if (!split_since_) {
    split_since_ = scan.ended;
  }
  // What a late node hears is not known: it will be back, or dead.
  const bool split = split_since_ && scan.ended - *split_since_ >= timing_.link_grace && !any_late();
  if (split) nodes = survivors(voters);
  survivors_.clear();
  for (const NodeId& node : nodes)
    survivors_.push_back(*view_.find(node));
  outvoted_ = !contains(survivors_, self_);
  const bool fewer = survivors_.size() < view_.members.size();
  if (fewer && header_.settings.quorum == QuorumPolicy::majority &&
      survivors_.size() * 2 <= std::max<std::size_t>(expected_nodes_, view_.members.size()) - expelled_members())
    outvoted_ = true;
  leads_ = !outvoted_ && survivors_.front() == self_;
}

ViewNumber MembershipCore::next_number() const {
  return std::max({view_.number, promised_, record_.view.number}) + 1;
}

ViewRecord MembershipCore::record_of(ViewNumber number, std::vector<Member> members) const {
  // Who leaves orderly is expected no more; who joins anew is.
  const auto count = static_cast<std::uint32_t>(members.size());
  std::uint32_t expected = expected_nodes_;
  for (const Member& member : members)
    expected += view_.contains(member) ? 0 : 1;
  for (const Member& leaver : leavers_)
    expected -= view_.contains(leaver) && expected > 0 ? 1 : 0;
  expected -= std::min(expected, static_cast<std::uint32_t>(expelled_members()));
  // The dead that come back under their old names are not counted twice: never more than there are journals.
  expected = std::clamp(expected, count, std::max(count, options_.journals));
  return {.generation = record_.generation,
          .cluster = header_.cluster,
          .view = {.number = number, .members = std::move(members)},
          .leader = self_.node,
          .expected_nodes = phase_ == Phase::electing ? count : expected};
}

void MembershipCore::lead(const Scan& scan) {
  if (leaving_) {
    for (const Member& member : view_.members)
      send(member, {.type = Type::leave});
  }
  if (broken_) {
    for (const Member& member : view_.members)
      send(member, {.type = Type::reform, .number = view_.number.value});
  }
  if (!leads_) {
    if (change_ && !change_->recording) change_.reset();
    return;
  }
  drive_recovery();
  admit_joiners(scan);
  for (const Member& member : view_.members) {
    if (!contains(survivors_, member) && !is_gone(member)) fence(member);
  }
  drive_change(wanted_members());
}

/// Why the joiner cannot be let in, if it never can.
std::optional<MembershipMessage> MembershipCore::objection_to(Member joiner, const Joiner& state) const {
  if (state.version != options_.protocol_version)
    return MembershipMessage{.type = Type::refuse,
                             .text = fmt::format("this node speaks protocol version {}, the cluster {}: use the same "
                                                 "version of Corral on every node",
                                                 state.version, options_.protocol_version)};
  if (!monitor_.holds(joiner)) {
    const Slot* slot = monitor_.slot(joiner.node);
    const bool taken = slot != nullptr && slot->state != SlotState::free;
    return MembershipMessage{
        .type = Type::refuse,
        .number = taken ? 1u : 0u,
        .text =
            "its slot does not show on the cluster's disk: this volume is a copy of the cluster's; give the copy "
            "a cluster of its own (corral release, then corral adopt)"};
  }
  const Slot& slot = *monitor_.slot(joiner.node);
  if (expelled_.contains(slot.name))
    return MembershipMessage{.type = Type::refuse, .text = expelled(slot.name).message()};
  for (const Slot* other : monitor_.occupied()) {
    if (other->id == joiner.node || other->name != slot.name) continue;
    // The joiner's former life may have ended just before it asked.
    const bool seen_since = monitor_.last_scan() - *state.asked >= timing_.late_after;
    if (view_.contains(other->member()) && monitor_.life(other->id) == Life::alive && seen_since)
      return MembershipMessage{.type = Type::refuse,
                               .text = fmt::format("the name {} is that of a living node (slot {}): give every node "
                                                   "a name of its own",
                                                   slot.name, other->id.value)};
  }
  return std::nullopt;
}

void MembershipCore::admit_joiners(const Scan& scan) {
  for (auto joiner = joiners_.begin(); joiner != joiners_.end();) {
    const bool asks = admit(scan, joiner->first, joiner->second);
    joiner = asks ? std::next(joiner) : joiners_.erase(joiner);
  }
}

/// False: it is not asking any more, or was refused.
bool MembershipCore::admit(const Scan& scan, Member joiner, Joiner& state) {
  if (!hears(joiner)) return false;
  // Its claim was stable before it asked, so a reading begun since shows it.
  if (!state.asked) state.asked = scan.ended;
  if (scan.began < *state.asked) return true;
  if (auto objection = objection_to(joiner, state)) {
    send(joiner, *std::move(objection));
    return false;
  }
  if (!has_to_wait(joiner)) state.admitted = true;
  return true;
}

/// A slot of the same node that is not known to be dead yet, or one that waits for recovery, comes first.
bool MembershipCore::has_to_wait(Member joiner) const {
  const auto on_its_slot = [joiner](const Member& gone) { return gone.node == joiner.node; };
  if (replaying_all_ || !recovering_.empty() || std::ranges::any_of(awaiting_recovery_, on_its_slot) ||
      view_.find(joiner.node))
    return true;
  const std::string& name = monitor_.slot(joiner.node)->name;
  return std::ranges::any_of(monitor_.occupied(), [&](const Slot* other) {
    if (other->id == joiner.node) return false;
    return other->name == name || (!view_.contains(other->member()) && monitor_.life(other->id) == Life::dead);
  });
}

/// The members of the view that should be. Nobody leaves while recoveries of this leader's are under way.
std::vector<Member> MembershipCore::wanted_members() const {
  std::vector<Member> wanted;
  for (const Member& member : survivors_) {
    const bool leaves = leavers_.contains(member) && (member != self_ || recovering_.empty());
    if (!leaves) wanted.push_back(member);
  }
  for (const auto& [member, joiner] : joiners_) {
    const Life life = monitor_.life(member.node);
    if (joiner.admitted && monitor_.holds(member) && hears(member) && life != Life::late && life != Life::dead)
      wanted.push_back(member);
  }
  std::ranges::sort(wanted);
  return wanted;
}

/// Brings the change of view one step on: all who are left out are gone, all who are in have answered, it is recorded.
void MembershipCore::drive_change(std::vector<Member> wanted) {
  if (change_ && change_->recording) return;
  if (change_ && (change_->members != wanted || ++change_->rounds > kRoundsPerChange)) change_.reset();
  if (!change_) {
    const bool complete =
        std::ranges::all_of(wanted, [this](const Member& member) { return member == self_ || hears(member); });
    if (!complete || (wanted == view_.members && !broken_)) return;
    // Without a split behind it, a change waits until members hear each other again.
    if (wanted == view_.members && split_since_) return;
    const bool all_gone = std::ranges::all_of(view_.members, [this, &wanted](const Member& member) {
      return contains(wanted, member) || leavers_.contains(member) || is_gone(member);
    });
    if (!all_gone) return;
    change_ = Change{.number = next_number(), .members = wanted, .unanswered = {wanted.begin(), wanted.end()}};
    change_->unanswered.erase(self_);
    promised_ = change_->number;
    promised_to_ = self_;
  }
  for (const Member& member : change_->unanswered)
    send(member, {.type = Type::prepare, .number = change_->number.value, .members = change_->members});
  if (!change_->unanswered.empty()) return;
  change_->recording = true;
  actions_.push_back(RecordView{record_of(change_->number, change_->members)});
}

Actions MembershipCore::recorded(Time now, const Result<ViewRecord>& result) {
  if (phase_ == Phase::ended) return {};
  if (result) {
    record_ = *result;
    expected_nodes_ = result->expected_nodes;
  } else {
    end_if_fenced(result.error());
    if (phase_ == Phase::ended) return take();
  }
  if (phase_ == Phase::electing) {
    election_recording_ = false;
    if (result && now - *election_scan_ <= timing_.election_window) {
      election_written_ = now;
    } else {
      // It may stand on the disk, or come to, over the view of another who was first meanwhile. Nobody is to take this
      // node for a member by it, the node itself included: it comes back as another.
      actions_.push_back(FreeSlot{self_});
      first_scan_.reset();
      restart();
    }
    return take();
  }
  if (!change_) return take();
  if (!result) {
    change_.reset();
    return take();
  }
  const View view{.number = change_->number, .members = change_->members};
  for (const Member& member : view.members) {
    if (member != self_) send(member, {.type = Type::commit, .number = view.number.value});
  }
  if (!view.contains(self_)) {
    actions_.push_back(FreeSlot{self_});
    end(MembershipEnded::Why::left, Error(0, "left the cluster"));
    return take();
  }
  install(now, view, false);
  return take();
}

/// Slots of nodes that are in no view and live no more: fenced, handed to the layer above, freed when it has done.
void MembershipCore::drive_recovery() {
  for (const Slot* slot : monitor_.occupied()) {
    if (!view_.contains(slot->member())) recover_when_gone(slot->member(), is_dead(slot->member()));
  }
  for (const Member& member : awaiting_recovery_) {
    const Slot* slot = monitor_.slot(member.node);
    // Where another wrote over its slot, or freed an earlier life's too late, only this node's memory knows of it.
    if (slot != nullptr && slot->incarnation != member.incarnation) recover_when_gone(member, true);
  }
}

void MembershipCore::recover_when_gone(Member member, bool dead) {
  if (recovering_.contains(member) || freeing_.contains(member)) return;
  if (is_gone(member) || (dead && planted(PlantedBug::unfenced_recovery))) {
    recovering_.insert(member);
    actions_.push_back(RecoverNode{member});
  } else if (dead) {
    fence(member);
  }
}

Actions MembershipCore::recovered(Member member) {
  if (phase_ == Phase::ended || recovering_.erase(member) == 0) return {};
  // Read before it is free, the slot must not make it recovered once more: its journal is about to be another's.
  freeing_.insert(member);
  actions_.push_back(FreeSlot{member, !process_ended(member) && !is_back(member)});
  if (!monitor_.holds(member) && awaiting_recovery_.erase(member) > 0) actions_.push_back(NodeRecovered{member});
  return take();
}

/// Where it could not be freed the next scan begins the recovery anew.
void MembershipCore::slot_freed(Member member, const Result<>& result) {
  if (!result) freeing_.erase(member);
}

}  // namespace corral::cluster
