#include "fs/directory_growth_plan.h"

#include "base/check.h"
#include "ondisk/layout.h"

namespace corral {

GrowthPlan plan_growth(std::vector<DirentDemand> others, DirentDemand wanted, std::uint32_t capacity_bytes,
                       std::uint32_t leaf_depth, std::uint32_t table_depth) {
  CHECK_INVARIANT(wanted.bytes <= capacity_bytes);
  GrowthPlan plan;
  for (;;) {
    std::uint64_t bytes = wanted.bytes;
    for (const DirentDemand& other : others)
      bytes += other.bytes;
    if (bytes <= capacity_bytes) break;
    if (leaf_depth == ondisk::kDirMaxDepth) {
      plan.chains = true;
      break;
    }
    ++leaf_depth;
    ++plan.splits;
    std::erase_if(others, [&](const DirentDemand& other) {
      return hash_prefix(other.hash, leaf_depth) != hash_prefix(wanted.hash, leaf_depth);
    });
  }
  plan.doublings = leaf_depth > table_depth ? leaf_depth - table_depth : 0;
  return plan;
}

}  // namespace corral
