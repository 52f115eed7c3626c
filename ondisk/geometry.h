/// Figures that follow from a volume's block size, as GFS2 derives them.
#pragma once

#include <array>
#include <cstdint>

#include "base/strong.h"
#include "ondisk/layout.h"

namespace corral::ondisk {

/// Derived once from the superblock; plain values, copied freely.
class Geometry {
 public:
  /// `block_size`: a power of two from 512 to 4096 (bytes; larger ones up to 65536 are accepted for reading).
  explicit Geometry(std::uint32_t block_size);

  std::uint32_t block_size() const { return block_size_; }
  std::uint32_t block_shift() const { return block_shift_; }
  std::uint64_t offset_bytes(BlockNo block) const { return block.value << block_shift_; }
  /// Blocks needed for so many bytes.
  std::uint64_t blocks_for(std::uint64_t bytes) const {
    return (bytes >> block_shift_) + ((bytes & (block_size_ - 1)) != 0);
  }
  BlockNo superblock() const { return BlockNo(kSuperblockOffsetBytes >> block_shift_); }

  /// Pointers in a dinode and in an indirect block.
  std::uint32_t dinode_pointers() const { return dinode_pointers_; }
  std::uint32_t indirect_pointers() const { return indirect_pointers_; }
  /// Bytes of contents that fit behind a dinode (files, directories, symlinks).
  std::uint32_t stuffed_bytes() const { return block_size_ - static_cast<std::uint32_t>(sizeof(Dinode)); }
  /// Bytes of a hashed directory's table in one block: those blocks carry a MetaHeader (type journaled_data).
  std::uint32_t directory_data_bytes() const { return block_size_ - static_cast<std::uint32_t>(sizeof(MetaHeader)); }
  /// Blocks of those that a table of so many bytes (1 or more) takes.
  std::uint64_t directory_data_blocks(std::uint64_t table_bytes) const {
    return (table_bytes - 1) / directory_data_bytes() + 1;
  }
  /// Bytes of dirents that fit into a leaf.
  std::uint32_t leaf_bytes() const { return block_size_ - static_cast<std::uint32_t>(sizeof(Leaf)); }
  /// Greatest height of a file's tree.
  std::uint32_t max_height() const { return max_height_; }
  /// Data blocks that a tree of that height (>= 1) can address; saturates at 2^63 / block size.
  std::uint64_t height_capacity_blocks(std::uint32_t height) const { return height_capacity_blocks_[height]; }
  /// Least height whose capacity holds `blocks` data blocks.
  std::uint32_t height_for_blocks(std::uint64_t blocks) const;
  /// Pointers in the first block of a newly hashed directory's table: half a block of them.
  std::uint32_t first_hash_pointers() const { return block_size_ / 16; }
  /// The same as a depth: the least that a hashed directory has.
  std::uint32_t first_hash_depth() const { return block_shift_ - 4; }
  /// Records in one block of a quota_changeN file.
  std::uint32_t quota_changes_per_block() const {
    return (block_size_ - static_cast<std::uint32_t>(sizeof(MetaHeader))) /
           static_cast<std::uint32_t>(sizeof(QuotaChange));
  }
  /// Blocks described by a resource group's first block, and by each further bitmap block.
  std::uint32_t rgrp_first_bitmap_bytes() const {
    return block_size_ - static_cast<std::uint32_t>(sizeof(ResourceGroup));
  }
  std::uint32_t rgrp_next_bitmap_bytes() const { return block_size_ - static_cast<std::uint32_t>(sizeof(MetaHeader)); }
  /// Bytes of bitmap that `length` (>= 1) such blocks hold.
  std::uint64_t rgrp_bitmap_bytes(std::uint64_t length) const {
    return rgrp_first_bitmap_bytes() + (length - 1) * rgrp_next_bitmap_bytes();
  }
  /// How many such blocks so many bytes of bitmap take.
  std::uint64_t rgrp_length(std::uint64_t bitmap_bytes) const {
    if (bitmap_bytes <= rgrp_first_bitmap_bytes()) return 1;
    return 2 + (bitmap_bytes - rgrp_first_bitmap_bytes() - 1) / rgrp_next_bitmap_bytes();
  }

 private:
  std::uint32_t block_size_;
  std::uint32_t block_shift_;
  std::uint32_t dinode_pointers_;
  std::uint32_t indirect_pointers_;
  std::uint32_t max_height_;
  std::array<std::uint64_t, kMaxMetaHeight + 1> height_capacity_blocks_{};
};

}  // namespace corral::ondisk
