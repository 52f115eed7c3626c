#include "fence/acknowledgement.h"

#include <algorithm>

namespace corral {

using cluster::FoundSlot;
using cluster::SlotState;

namespace {
constexpr const char* kAcknowledged = "an operator has said that it can write nothing more (corral fence ack)";
constexpr const char* kBack = "its node has come back";
}  // namespace

Task<Result<SeenLife>> look_at_life(cluster::ClusterArea area, Member life, std::string own_name) {
  CO_TRY(const cluster::Header header, co_await area.read_header());
  CO_TRY(const std::vector<FoundSlot> slots, co_await area.read_slots(cluster::kSlots));
  SeenLife seen;
  const FoundSlot& found = slots[life.node.value];
  if (!found.slot || found.slot->member() != life) {
    // What its last heartbeat was is not known any more; nor has anybody seen one since.
    if (header.acknowledged[life.node.value].incarnation == life.incarnation) seen.ended = kAcknowledged;
    co_return seen;
  }
  seen.name = found.slot->name;
  const bool is_back = seen.name == own_name || std::ranges::any_of(slots, [&](const FoundSlot& other) {
                         return other.slot && other.slot->state != SlotState::free && other.slot->id != life.node &&
                                other.slot->name == seen.name && other.slot->incarnation > life.incarnation;
                       });
  if (cluster::is_acknowledged(header, *found.slot))
    seen.ended = kAcknowledged;
  else if (is_back)
    seen.ended = kBack;
  co_return seen;
}

}  // namespace corral
