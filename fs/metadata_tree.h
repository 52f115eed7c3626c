/// The tree of block pointers of an inode: where a file's (or hash table's) blocks lie, growing and shrinking it.
///
/// Height 0 is stuffed: contents lie behind the dinode. Height h > 0: the dinode holds pointers to blocks of height
/// h-1, and so on; pointers at the lowest level are data blocks. A null pointer is a hole. Pointers are checked to lie
/// within the volume; a bad one gives a corrupt error that names inode, height and block.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/result.h"
#include "base/task.h"
#include "fs/allocator.h"
#include "fs/inode.h"
#include "fs/volume.h"

namespace corral {

/// A run of a file's blocks: all a hole, or all data and contiguous on the device.
struct MappedRun {
  FileBlock first;
  std::uint64_t length = 0;  ///< blocks
  BlockNo start;             ///< device block of `first`; 0 for a hole
  bool is_hole() const { return start.value == 0; }
};

class MetadataTree {
 public:
  MetadataTree(Volume& volume, Allocator& allocator) : volume_(volume), allocator_(allocator) {}

  /// The run at `first`, at most `limit` blocks long. The inode must not be stuffed. Past the tree's reach: a hole.
  Task<Result<MappedRun>> map(const LockedInode& inode, FileBlock first, std::uint64_t limit);

  /// Near which block to look for this inode's next one (AllotmentRequest::goal).
  static BlockNo goal(const LockedInode& inode);

  /// What making blocks [first, first + count) exist costs at the most, from the tree as it is now.
  struct Cost {
    std::uint32_t new_blocks = 0;  ///< to allocate: data, indirect blocks, height, unstuffing
    std::uint32_t log_blocks = 0;  ///< to log: indirect blocks and the dinode (the allotment's own not included)
  };
  /// Reads the blocks it will change into the cache, so that allocate() does not fail for want of a read.
  Task<Result<Cost>> allocation_cost(const LockedInode& inode, FileBlock first, std::uint64_t count);

  /// Makes the blocks exist; new ones are reported to `is_new` in order (their contents are whatever the device holds:
  /// the caller writes all of them or zeroes). Stuffed inodes must have been unstuffed before. Updates di_blocks,
  /// height, goal.
  using NewRun = std::function<void(FileBlock, Extent)>;
  Task<Result<>> allocate(Transaction& transaction, Allotment& allotment, const LockedInode& inode, FileBlock first,
                          std::uint64_t count, const NewRun& is_new);

  /// Moves stuffed contents into a block of their own (none if the size is 0) and sets height 1. Directories and
  /// journaled-data files get the block logged (directories with a MetaHeader of type journaled_data); for others
  /// `data` receives the contents, to be written to the block as ordered data.
  using StuffedData = std::function<void(BlockNo, std::span<const std::byte>)>;
  Task<Result<>> unstuff(Transaction& transaction, Allotment& allotment, const LockedInode& inode,
                         const StuffedData& data);

  /// Frees the blocks [first, first + count) and the indirect blocks that become empty, a bounded part at a time: each
  /// step is a transaction of its own that leaves the volume consistent; `count` to the end of the tree with
  /// kToEnd. Takes and releases resource groups itself; the inode stays locked exclusive throughout.
  /// The caller has made sure that no dirty data or write in flight refers to the range.
  static constexpr std::uint64_t kToEnd = ~std::uint64_t{0};
  Task<Result<>> free_range(const LockedInode& inode, FileBlock first, std::uint64_t count);

  /// First block at or after `first` that is data (want_data) or a hole; nullopt if there is none below `end`.
  Task<Result<std::optional<FileBlock>>> seek(const LockedInode& inode, FileBlock first, FileBlock end, bool want_data);

 private:
  Volume& volume_;
  Allocator& allocator_;
};

}  // namespace corral
