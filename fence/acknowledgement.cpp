#include "fence/acknowledgement.h"

#include <algorithm>

namespace corral {

using cluster::FoundSlot;
using cluster::SlotState;

namespace {
constexpr const char* kAcknowledged = "an operator has said that it can write nothing more (corral fence ack)";
constexpr const char* kBack = "its node has come back";
}  // namespace

Task<Result<SeenLife>> look_at_life(const FencingParts& parts, Member life) {
  CO_TRY(const cluster::Header header, co_await parts.area.read_header());
  CO_TRY(const std::vector<FoundSlot> slots, co_await parts.area.read_slots(cluster::kSlots));
  SeenLife seen;
  const auto ended = [&](const char* why) {
    parts.log.info("fenced {}: {}", life.describe(), why);
    seen.ended = true;
  };
  const FoundSlot& found = slots[life.node.value];
  if (!found.slot || found.slot->member() != life) {
    // What its last heartbeat was is not known any more; nor has anybody seen one since.
    if (header.acknowledged[life.node.value].incarnation == life.incarnation) ended(kAcknowledged);
    co_return seen;
  }
  seen.name = found.slot->name;
  const bool is_back = seen.name == parts.node_name || std::ranges::any_of(slots, [&](const FoundSlot& other) {
                         return other.slot && other.slot->state != SlotState::free && other.slot->id != life.node &&
                                other.slot->name == seen.name && other.slot->incarnation > life.incarnation;
                       });
  if (cluster::is_acknowledged(header, *found.slot))
    ended(kAcknowledged);
  else if (is_back)
    ended(kBack);
  co_return seen;
}

}  // namespace corral
