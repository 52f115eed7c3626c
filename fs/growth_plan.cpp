#include "fs/growth_plan.h"

#include <algorithm>

#include "base/check.h"

namespace corral {

std::uint64_t GrowthPlan::data_blocks() const {
  std::uint64_t blocks = 0;
  for (const PlannedGroup& group : groups)
    blocks += group.shape.data;
  return blocks;
}

GrowthPlan plan_growth(const ondisk::Geometry& geometry, const ondisk::GroupAlignment& alignment, BlockNo end,
                       std::uint64_t device_blocks, std::uint64_t usual_blocks) {
  GrowthPlan plan;
  BlockNo next = alignment.align(end);
  plan.spare_blocks = device_blocks - std::min(device_blocks, end.value);
  const std::uint64_t blocks = device_blocks - std::min(device_blocks, next.value);
  const std::uint64_t least = geometry.blocks_for(kLeastGrowthBytes);
  if (blocks < least) return plan;
  // Groups of a small volume are no measure for a large one.
  const std::uint64_t usual = std::max(usual_blocks, least);
  std::uint64_t count = (blocks + usual - 1) / usual;
  if (blocks / count < least) --count;
  std::vector<std::uint64_t> spans;
  // Where whole stripes do not go into so many groups, fewer must do.
  for (; count > 0 && spans.empty(); --count)
    spans = ondisk::divide_evenly(geometry, alignment, blocks, count);
  for (const std::uint64_t span : spans) {
    const auto shape = ondisk::group_within(geometry, span);
    CHECK_INVARIANT(shape.has_value());
    if (!plan.groups.empty()) plan.groups.back().skip = static_cast<std::uint32_t>(next - plan.groups.back().address);
    plan.groups.push_back({.address = next, .shape = *shape});
    next += span;
  }
  if (!plan.groups.empty()) {
    const PlannedGroup& last = plan.groups.back();
    plan.spare_blocks = device_blocks - (last.address.value + last.shape.blocks());
  }
  return plan;
}

}  // namespace corral
