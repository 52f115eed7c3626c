/// Space and inode counts of the volume without reading resource groups: the master `statfs` file plus this node's
/// changes, which stand in its statfs_changeN file (both struct gfs2_statfs_change behind their dinode) and in every
/// log header it writes. The node's file is held exclusively for the whole mount.
#pragma once

#include <cstdint>

#include "base/result.h"
#include "base/task.h"
#include "fs/allocator.h"
#include "fs/inode.h"
#include "fs/volume.h"
#include "journal/journal.h"

namespace corral {

class StatfsCounters {
 public:
  explicit StatfsCounters(Volume& volume) : volume_(volume) {}

  /// `local` is null on a mount that writes nothing.
  Task<Result<>> open(InodeRef master, InodeRef local);
  void close();

  /// Log blocks of a change.
  static constexpr std::uint32_t kLogBlocks = 1;
  void change(Transaction& transaction, std::int64_t free, std::int64_t dinodes);
  /// The volume has so many blocks more, all of them free.
  void grow(Transaction& transaction, std::uint64_t blocks);
  /// Counts can be out of step after crashes of other implementations: never below 0, never more free than there are.
  Task<Result<SpaceFigures>> figures();
  /// Moves this node's changes into the master file.
  Task<Result<>> sync();
  /// Moves what the node of another statfs_changeN, held exclusively, has left there into the master file, and says so
  /// in the log.
  Task<Result<>> take_over(const LockedInode& left, JournalId of);
  /// True if this node's changes have reached `percent` of the free space known from the last look at the master.
  bool beyond_percent(std::uint32_t percent) const;
  void add_to(LogHeaderExtras& extras) const;

 private:
  struct Counts {
    std::int64_t total = 0;
    std::int64_t free = 0;
    std::int64_t dinodes = 0;
    bool operator==(const Counts&) const = default;
  };
  static Counts read(const Block& dinode);
  static ondisk::StatfsChange on_disk(const Counts& counts);
  static void write(Transaction& transaction, Block& dinode, const Counts& counts);
  Task<Result<LockedInode>> lock_master(GlockMode mode);
  void add_to_master(Transaction& transaction, const LockedInode& master, const Counts& counts);

  Volume& volume_;
  InodeRef master_;
  LockedInode local_inode_;
  Counts master_counts_;  ///< as last seen
  Counts local_;
};

}  // namespace corral
