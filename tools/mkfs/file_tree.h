/// A preallocated file whose blocks lie one behind the other: dinode, indirect blocks level by level, then the data.
/// All addresses follow from the first one, so nothing but figures is kept, however large the file is.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/strong.h"
#include "ondisk/geometry.h"

namespace corral::mkfs {

class FileTree {
 public:
  /// `data_blocks` > 0: a file that is not stuffed.
  FileTree(const ondisk::Geometry& geometry, BlockNo dinode, std::uint64_t data_blocks);

  BlockNo dinode() const { return dinode_; }
  /// Blocks in all, the dinode's included; the file ends before dinode() + blocks().
  std::uint64_t blocks() const;
  std::uint32_t height() const { return static_cast<std::uint32_t>(levels_.size()); }
  BlockNo first_data() const { return levels_.back().start; }
  std::uint64_t data_blocks() const { return levels_.back().count; }
  bool contains(BlockNo block) const { return block >= dinode_ && block < dinode_ + blocks(); }

  /// Writes the dinode's pointers behind its header.
  void fill_dinode_pointers(std::span<std::byte> block) const;
  /// Makes the whole of an indirect block: one between the dinode and first_data().
  void fill_indirect(BlockNo address, std::span<std::byte> block) const;

 private:
  struct Level {
    BlockNo start;
    std::uint64_t count;
  };
  BlockNo dinode_;
  std::uint32_t indirect_pointers_;
  std::vector<Level> levels_;  ///< from the one below the dinode down to the data
};

}  // namespace corral::mkfs
