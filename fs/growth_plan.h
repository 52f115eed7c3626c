/// Where a volume that grows gets its new resource groups: behind the last one, as mkfs.corral would divide that space.
#pragma once

#include <cstdint>
#include <vector>

#include "base/strong.h"
#include "ondisk/group_shape.h"

namespace corral {

struct PlannedGroup {
  BlockNo address;
  ondisk::GroupShape shape;
  std::uint32_t skip = 0;  ///< blocks to the next group, 0 for the last
};

struct GrowthPlan {
  std::vector<PlannedGroup> groups;
  std::uint64_t spare_blocks = 0;  ///< behind the last group, when these are there

  std::uint64_t data_blocks() const;
};

/// No group is shorter than this, so smaller changes of a device add nothing.
constexpr std::uint64_t kLeastGrowthBytes = std::uint64_t{32} << 20;

/// `end` is behind the last group that there is, `usual_blocks` the span of the largest one: the new ones are even, and
/// no longer.
GrowthPlan plan_growth(const ondisk::Geometry& geometry, const ondisk::GroupAlignment& alignment, BlockNo end,
                       std::uint64_t device_blocks, std::uint64_t usual_blocks);

}  // namespace corral
