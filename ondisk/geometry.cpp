#include "ondisk/geometry.h"

#include <bit>

#include "base/check.h"

namespace corral::ondisk {

Geometry::Geometry(std::uint32_t block_size)
    : block_size_(block_size),
      block_shift_(static_cast<std::uint32_t>(std::countr_zero(block_size))),
      dinode_pointers_((block_size - static_cast<std::uint32_t>(sizeof(Dinode))) / 8),
      indirect_pointers_((block_size - static_cast<std::uint32_t>(sizeof(MetaHeader))) / 8),
      max_height_(kMaxMetaHeight) {
  CHECK_INVARIANT(std::has_single_bit(block_size) && block_size >= 512 && block_size <= 65536);
  // File offsets are signed 64-bit: no height needs to reach further.
  const std::uint64_t most = (std::uint64_t{1} << 63) >> block_shift_;
  height_capacity_blocks_[1] = dinode_pointers_;
  for (std::uint32_t height = 2; height <= kMaxMetaHeight; ++height) {
    std::uint64_t below = height_capacity_blocks_[height - 1];
    height_capacity_blocks_[height] = below > most / indirect_pointers_ ? most : below * indirect_pointers_;
  }
  for (std::uint32_t height = 1; height <= kMaxMetaHeight; ++height) {
    if (height_capacity_blocks_[height] == most) {
      max_height_ = height;
      break;
    }
  }
}

std::uint32_t Geometry::height_for_blocks(std::uint64_t blocks) const {
  std::uint32_t height = 1;
  while (height < max_height_ && height_capacity_blocks_[height] < blocks)
    ++height;
  return height;
}

}  // namespace corral::ondisk
