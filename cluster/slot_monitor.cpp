#include "cluster/slot_monitor.h"

namespace corral::cluster {

namespace {
/// A single repetition may come from a reader that was paused between two readings.
constexpr std::uint32_t kRepeatsOfTheDead = 3;
}  // namespace

void SlotMonitor::scanned(Time began, Time ended, const std::vector<FoundSlot>& slots) {
  observed_.resize(slots.size());
  last_scan_ = began;
  for (std::size_t i = 0; i < slots.size(); ++i) {
    Observed& observed = observed_[i];
    // What cannot be read tells nothing new.
    const bool same = !slots[i].slot || slots[i].slot == observed.slot;
    if (same && observed.first_seen != Time{}) {
      ++observed.repeats;
      observed.silence = std::max(Duration{}, began - observed.first_seen);
      continue;
    }
    const bool beat =
        !same && observed.slot && slots[i].slot && observed.slot->incarnation == slots[i].slot->incarnation;
    observed = {.slot = slots[i].slot, .first_seen = ended, .changed = beat};
  }
}

const SlotMonitor::Observed* SlotMonitor::find(NodeId node) const {
  return node.value < observed_.size() ? &observed_[node.value] : nullptr;
}

const Slot* SlotMonitor::slot(NodeId node) const {
  const Observed* observed = find(node);
  return observed != nullptr && observed->slot ? &*observed->slot : nullptr;
}

std::vector<const Slot*> SlotMonitor::occupied() const {
  std::vector<const Slot*> slots;
  for (const Observed& observed : observed_) {
    if (observed.slot && observed.slot->state != SlotState::free) slots.push_back(&*observed.slot);
  }
  return slots;
}

Duration SlotMonitor::silence(NodeId node) const {
  const Observed* observed = find(node);
  return observed == nullptr ? Duration{} : observed->silence;
}

bool SlotMonitor::holds(Member member) const {
  const Slot* found = slot(member.node);
  return found != nullptr && found->state != SlotState::free && found->incarnation == member.incarnation;
}

Life SlotMonitor::life(NodeId node) const {
  const Observed* observed = find(node);
  if (observed == nullptr) return Life::unknown;
  if (observed->silence >= timing_.failure_timeout && observed->repeats >= kRepeatsOfTheDead) return Life::dead;
  if (!observed->changed) return Life::unknown;
  return observed->silence >= timing_.late_after ? Life::late : Life::alive;
}

}  // namespace corral::cluster
