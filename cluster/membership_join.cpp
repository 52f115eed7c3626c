// Membership from the first look at the area to the first view.
#include <algorithm>

#include "cluster/membership_core.h"

namespace corral::cluster {

/// The lower the better: the own one of old, which says more than others about the life that had it; then one of which
/// nothing has to be remembered.
int MembershipCore::cost_of(const Slot& free) const {
  const bool own = free.name == options_.name;
  const bool fenced = free.fenced != FencedLife::none;
  if (own) return fenced ? 0 : 1;
  return fenced ? 3 : 2;
}

/// Claims a free slot; where there is none and everybody is dead, a dead node's.
void MembershipCore::look_for_slot(const Scan& scan) {
  std::vector<NodeId> free;
  std::vector<NodeId> dead;
  for (std::uint32_t i = 0; i < options_.journals; ++i) {
    const NodeId node(i);
    const Slot* slot = monitor_.slot(node);
    if (slot == nullptr) continue;
    if (slot->state == SlotState::free) free.push_back(node);
    if (slot->state != SlotState::free && monitor_.life(node) == Life::dead) dead.push_back(node);
  }
  if (!free.empty()) {
    const auto cost = [this](NodeId node) { return cost_of(*monitor_.slot(node)); };
    const int least = cost(*std::ranges::min_element(free, {}, cost));
    std::erase_if(free, [&](NodeId node) { return cost(node) != least; });
    return claim(free[attempts_ == 0 ? 0 : random_.below(free.size())], std::nullopt);
  }
  if (dead.size() == options_.journals) {
    const NodeId node = dead[random_.below(dead.size())];
    return claim(node, monitor_.slot(node)->member());
  }
  if (scan.began - *first_scan_ > 3 * timing_.failure_timeout && dead.empty())
    end(MembershipEnded::Why::refused,
        Error(ENOSPC, fmt::format("all {} journals are in use: unmount the volume on a node, or add a journal "
                                  "(gfs2_jadd -j 1 on a volume that is mounted)",
                                  options_.journals)));
}

void MembershipCore::claim(NodeId node, std::optional<Member> victim) {
  ++attempts_;
  const Slot* found = monitor_.slot(node);
  self_ = {node, std::max(options_.incarnation + attempts_, found->incarnation + 1)};
  // Of a node that has come back the former life has ended. Another's is remembered without its name.
  const bool another = found->name != options_.name && (victim || found->fenced == FencedLife::last);
  fenced_before_ = another || found->fenced == FencedLife::earlier ? FencedLife::earlier : FencedLife::none;
  claim_written_.reset();
  asking_since_.reset();
  phase_ = Phase::claiming;
  actions_.push_back(ClaimSlot{own_slot(SlotState::joining), victim});
}

Actions MembershipCore::claimed(Time now, const Result<>& result) {
  if (phase_ != Phase::claiming) return {};
  if (result) {
    claim_written_ = now;
  } else {
    phase_ = Phase::starting;
  }
  return take();
}

void MembershipCore::check_claim(const Scan& scan) {
  if (!claim_written_ || scan.began < *claim_written_ + timing_.claim_wait) return;
  if (!monitor_.holds(self_) || monitor_.slot(self_.node)->name != options_.name) {
    phase_ = Phase::starting;
    return;
  }
  phase_ = Phase::asking;
  asking_since_ = scan.ended;
  actions_.push_back(OpenLink{self_});
}

/// Whether a member of the recorded view may be alive, as far as the disk tells.
bool MembershipCore::may_live(Member member) const {
  const Life life = monitor_.life(member.node);
  const Slot* slot = monitor_.slot(member.node);
  if (slot == nullptr || monitor_.holds(member)) return life != Life::dead;
  if (slot->state == SlotState::free || slot->member() == self_) return false;
  // Another claimed its slot. A living member would write over that at its next heartbeat.
  return life == Life::unknown || life == Life::late;
}

bool MembershipCore::a_member_may_live() const {
  return std::ranges::any_of(record_.view.members, [this](const Member& member) { return may_live(member); });
}

bool MembershipCore::a_lower_joiner_may_live() const {
  return std::ranges::any_of(monitor_.occupied(), [this](const Slot* slot) {
    return slot->id < self_.node && monitor_.life(slot->id) != Life::dead;
  });
}

/// A member of the recorded view that may live, and that this node does not hear.
std::optional<Member> MembershipCore::unheard_member() const {
  for (const Member& member : record_.view.members) {
    if (may_live(member) && !hears(member)) return member;
  }
  return std::nullopt;
}

void MembershipCore::ask(const Scan& scan) {
  const Slot* own = monitor_.slot(self_.node);
  if (own != nullptr && !monitor_.holds(self_)) {
    // Somebody claims the same slot, or took it for a dead one's.
    return restart();
  }
  if (record_.view.number > view_.number && record_.view.contains(self_)) {
    // Let in; the message that said so was lost.
    confirmed_ = scan.began;
    expected_nodes_ = record_.expected_nodes;
    return install(scan.ended, record_.view, false);
  }
  if (a_member_may_live()) {
    const std::optional<Member> unheard = unheard_member();
    if (!unheard) {
      asking_since_ = scan.ended;
      for (const Member& member : record_.view.members)
        send(member, {.type = MembershipMessage::Type::join, .number = options_.protocol_version});
    }
    // Let in without hearing all, it would split the members, and one of them would be fenced.
    if (scan.ended - *asking_since_ <= 3 * timing_.failure_timeout) return;
    const Slot* member = monitor_.slot(unheard->node);
    actions_.push_back(FreeSlot{self_});
    return end(MembershipEnded::Why::refused,
               Error(EHOSTUNREACH, fmt::format("node {} lives, as its heartbeat on the disk shows, but there is no "
                                               "connection to it: check network, firewall and port {}",
                                               member != nullptr ? member->name : std::string("?"),
                                               member != nullptr ? member->port : 0)));
  }
  asking_since_ = scan.ended;
  if (a_lower_joiner_may_live()) return;
  phase_ = Phase::electing;
  election_scan_.reset();
  election_written_.reset();
  elect(scan);
}

/// True when every slot of a dead node is fenced, and silent since for so long that it serves nothing.
bool MembershipCore::fence_all_dead() {
  std::set<Member> dead;
  for (const Slot* slot : monitor_.occupied()) {
    if (slot->member() != self_ && monitor_.life(slot->id) == Life::dead) dead.insert(slot->member());
  }
  for (const Member& member : record_.view.members) {
    // What its slot said cannot be read any more.
    if (monitor_.slot(member.node) == nullptr) dead.insert(member);
  }
  bool all = true;
  for (const Member& member : dead) {
    if (is_gone(member)) continue;
    fence(member);
    all = false;
  }
  return all;
}

/// Nobody lives: writes a view of its own and sees whether it stays. Two that do so at the same time write to the same
/// copy within the election window; after the longer wait both see the later one's.
void MembershipCore::elect(const Scan& scan) {
  if (election_recording_) return;
  if (election_written_) {
    if (scan.began < *election_written_ + timing_.election_wait) return;
    const View& recorded = scan.record.view;
    if (recorded.number > view_.number && recorded.members == std::vector{self_} && monitor_.holds(self_)) {
      confirmed_ = scan.began;
      return install(scan.ended, recorded, true);
    }
    phase_ = Phase::asking;
    return;
  }
  if (a_member_may_live() || a_lower_joiner_may_live() || !monitor_.holds(self_)) {
    phase_ = Phase::asking;
    return;
  }
  if (!fence_all_dead()) return;
  election_scan_ = scan.began;
  election_recording_ = true;
  actions_.push_back(RecordView{record_of(next_number(), {self_})});
}

}  // namespace corral::cluster
