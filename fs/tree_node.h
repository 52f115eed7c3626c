/// The parts of an inode's pointer tree: its shape (pure arithmetic) and its nodes (blocks of pointers, checked).
/// For fs/metadata_tree*.cpp only.
///
/// Levels count downwards: level 0 is the dinode, level height-1 holds the pointers to data blocks. Nodes below the
/// dinode are blocks of MetaType::indirect.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "base/strong.h"
#include "base/task.h"
#include "fs/inode.h"
#include "fs/volume.h"
#include "ondisk/geometry.h"
#include "ondisk/layout.h"

namespace corral {

/// File blocks [first, end).
struct FileRange {
  std::uint64_t first = 0;
  std::uint64_t end = 0;
  bool empty() const { return first >= end; }
};
FileRange intersection(FileRange a, FileRange b);

/// Which pointer of which node leads to a file block, in a tree of a given height (at least 1).
class TreeShape {
 public:
  TreeShape(const ondisk::Geometry& geometry, std::uint32_t height);

  std::uint32_t height() const { return height_; }
  std::uint32_t lowest_level() const { return height_ - 1; }
  FileRange reach() const { return {0, capacity_blocks_}; }
  /// File blocks behind one pointer of a node at `level`.
  std::uint64_t span(std::uint32_t level) const { return spans_[level]; }
  /// Nodes at `level` that the paths to the range's blocks go through.
  std::uint64_t nodes(std::uint32_t level, FileRange range) const;

 private:
  std::uint32_t height_;
  std::uint64_t capacity_blocks_;
  std::array<std::uint64_t, ondisk::kMaxMetaHeight> spans_{};
};

/// A node in memory and how it was reached.
struct TreeNode {
  BlockRef block;
  std::uint32_t level = 0;
  std::uint64_t first = 0;                                ///< file block behind its first pointer
  std::uint64_t span = 1;                                 ///< file blocks behind each pointer
  std::array<BlockNo, ondisk::kMaxMetaHeight> path = {};  ///< the blocks from the dinode to this one

  std::size_t header_bytes() const { return level == 0 ? sizeof(ondisk::Dinode) : sizeof(ondisk::MetaHeader); }
  /// As they are now: to be asked again after a co_await or a change.
  std::span<const ondisk::be64> pointers() const { return ondisk::pointers(block->bytes(), header_bytes()); }
  FileRange range() const { return {first, first + pointers().size() * span}; }
  /// Of the pointer that leads to a file block within range().
  std::uint32_t index_of(std::uint64_t file_block) const {
    return static_cast<std::uint32_t>((file_block - first) / span);
  }
  /// The pointers to a part of range().
  std::span<const ondisk::be64> pointers_to(FileRange part) const {
    if (part.empty()) return {};
    const std::uint32_t index = index_of(part.first);
    return pointers().subspan(index, index_of(part.end - 1) - index + 1);
  }
  FileRange range_of(std::uint32_t index) const { return {first + index * span, first + (index + 1) * span}; }
  bool all_null() const;
};

/// Reads and checks the nodes of one locked inode's tree. A bad pointer or block gives a corrupt error that names
/// inode, level and block.
class TreeNodes {
 public:
  TreeNodes(Volume& volume, const LockedInode& inode);

  const TreeShape& shape() const { return shape_; }
  TreeNode root() const;
  bool is_lowest(const TreeNode& node) const { return node.level == shape_.lowest_level(); }
  /// A run of data pointers lies within the volume and does not hit the dinode.
  Result<> check_data(BlockNo start, std::uint64_t length) const;
  /// The node that a pointer (not null) of a node leads to; `last` is the index of the last pointer of this node that
  /// the caller will follow: nodes up to there are read ahead.
  Task<Result<TreeNode>> child(TreeNode node, std::uint32_t index, std::uint32_t last) const;
  /// The same if the child is in memory, which is certain while the result of read_all() for it is held.
  Result<TreeNode> cached_child(const TreeNode& node, std::uint32_t index) const;
  /// All existing nodes below the dinode on the way to the range's blocks; they stay in memory as long as they are
  /// held.
  Task<Result<std::vector<BlockRef>>> read_all(FileRange range) const;

 private:
  Result<BlockNo> pointer(const TreeNode& node, std::uint32_t index) const;
  Result<TreeNode> checked(const TreeNode& parent, std::uint32_t index, BlockRef block) const;
  void read_ahead(const TreeNode& node, std::uint32_t index, std::uint32_t last) const;
  std::string place(std::uint32_t level) const;

  Volume& volume_;
  const LockedInode& inode_;
  TreeShape shape_;
  std::uint64_t volume_blocks_;
};

}  // namespace corral
