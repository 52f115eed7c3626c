/// What it takes to make room for a name in a full leaf of a hashed directory: pure arithmetic.
#pragma once

#include <cstdint>
#include <vector>

namespace corral {

struct GrowthPlan {
  std::uint32_t splits = 0;     ///< of the name's leaf, one after the other
  std::uint32_t doublings = 0;  ///< of the table
  bool chains = false;          ///< one more leaf behind the last of the chain
};

/// What decides about a leaf's splits.
struct DirentDemand {
  std::uint32_t hash = 0;
  std::uint32_t bytes = 0;
};
/// The least that makes room for `wanted` beside the others in a leaf of `capacity_bytes`.
GrowthPlan plan_growth(std::vector<DirentDemand> others, DirentDemand wanted, std::uint32_t capacity_bytes,
                       std::uint32_t leaf_depth, std::uint32_t table_depth);

/// The upper `depth` bits of a hash: what all names of a leaf of that depth have in common.
constexpr std::uint32_t hash_prefix(std::uint32_t hash, std::uint32_t depth) {
  return depth == 0 ? 0 : hash >> (32 - depth);
}

}  // namespace corral
