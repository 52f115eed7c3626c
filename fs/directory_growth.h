/// How a hashed (or stuffed) directory makes room for a name where the name's leaf has none: it becomes hashed, its
/// leaf splits, the table doubles so that the leaf can split, and at the greatest depth one more leaf is chained.
///
/// All that can fail (reading, finding damage, knowing what to reserve) happens in prepare(); carry_out() only changes
/// blocks that are in memory, in the one transaction that also inserts the name.
#pragma once

#include <cstdint>

#include "base/result.h"
#include "base/task.h"
#include "fs/allocator.h"
#include "fs/directory_entry.h"
#include "fs/directory_growth_plan.h"
#include "fs/directory_table.h"
#include "fs/inode.h"

namespace corral {

class DirectoryGrowth {
 public:
  /// For a stuffed directory whose dinode has no room (was scanned).
  static Task<Result<DirectoryGrowth>> prepare_stuffed(Volume& volume, MetadataTree& tree, DirectoryTable& table,
                                                       const LockedInode& directory, const HashedName& name);
  /// For a hashed directory: `first` to `last` are the name's chain of `length` leaves, which were scanned and have no
  /// room.
  static Task<Result<DirectoryGrowth>> prepare_hashed(MetadataTree& tree, DirectoryTable& table,
                                                      const LockedInode& directory, const HashedName& name,
                                                      BlockRef first, BlockRef last, std::uint32_t length);

  std::uint32_t new_blocks() const { return new_blocks_; }
  /// The directory's dinode included.
  std::uint32_t log_blocks() const { return log_blocks_; }

  /// Makes the room; gives the leaf that has it. Names that were removed from the directory since prepare() do no harm.
  Task<Result<BlockRef>> carry_out(Volume& volume, DirectoryTable& table, Transaction& transaction,
                                   Allotment& allotment, const LockedInode& directory, std::uint32_t hash);

 private:
  Task<Result<>> reserve(MetadataTree& tree, const DirectoryTable& table, const LockedInode& directory,
                         std::uint32_t table_depth);
  std::uint32_t new_leaves() const { return plan_.splits + plan_.chains + becomes_hashed_; }

  GrowthPlan plan_;
  bool becomes_hashed_ = false;
  BlockRef first_leaf_;
  BlockRef last_leaf_;
  std::uint32_t chain_length_ = 1;
  TableRange table_;
  std::uint32_t new_blocks_ = 0;
  std::uint32_t log_blocks_ = 0;
};

}  // namespace corral
