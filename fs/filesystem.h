/// A mounted volume on this node: puts the parts together, mounts (superblock, system files, journal replay), unmounts,
/// withdraws, frees unlinked inodes.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "base/log.h"
#include "base/random.h"
#include "base/result.h"
#include "base/task.h"
#include "disk/device.h"
#include "fs/allocator.h"
#include "fs/directory.h"
#include "fs/extended_attributes.h"
#include "fs/file_data.h"
#include "fs/freezer.h"
#include "fs/inode.h"
#include "fs/metadata_tree.h"
#include "fs/mount_options.h"
#include "fs/operations.h"
#include "fs/volume.h"
#include "offline/journals.h"
#include "ondisk/validate.h"

namespace corral {

class Filesystem {
 public:
  /// The seams a mount stands on; all outlive it.
  struct Environment {
    Executor& executor;
    Device& device;
    LogSink& log;
    std::uint64_t random_seed;
    /// Whether a caller has the group among its additional ones. None: no caller has such.
    std::function<bool(const Caller& caller, std::uint32_t gid)> in_additional_groups = {};
    /// Where the volume is shared with other nodes: who grants the glocks. None: this node is alone (lock_nolock).
    LockSpace* lock_space = nullptr;
    /// This node's journal, and the number of its statfs_change and quota_change files.
    JournalId journal{0};
    /// True if no other node has the volume mounted: all dirty journals are replayed, not just the own one.
    bool first_mounter = true;
    /// Told once when the mount withdraws: nothing more is written, and what was not written yet stays so.
    std::function<void(const Error& reason)> withdrawn = {};
  };

  /// Reads the superblock, replays dirty journals (not for spectators), opens the system files and this node's journal.
  /// Errors name what is wrong and what to do.
  static Task<Result<std::unique_ptr<Filesystem>>> mount(Environment environment, MountOptions options);
  /// Frees unlinked inodes, writes everything, leaves the journal clean, lets go of everything in memory. The kernel
  /// must have let go of the mount. After a withdraw nothing is written
  /// and EIO is returned.
  Task<Result<>> unmount();
  /// Without unmount(): the node's death, wherever its work stands. Nothing is written.
  ~Filesystem();

  Operations& operations() { return operations_; }
  BlockNo root() const { return BlockNo(superblock_.root_dir.addr); }
  Volume& volume() { return volume_; }
  const ondisk::SuperblockInfo& superblock() const { return superblock_; }
  Journal* journal() { return journal_.get(); }
  Allocator& allocator() { return *allocator_; }
  MetadataTree& tree() { return *tree_; }
  Directories& directories() { return *directories_; }
  FileData& data() { return *data_; }
  ExtendedAttributes& attributes() { return *attributes_; }
  Freezer& freezer() { return *freezer_; }
  InodeTable& inodes() { return *inodes_; }
  GlockTable& glocks() { return glocks_; }
  /// Keeps the shape of the directory tree still while a directory moves to another parent.
  Glock& rename_glock() { return *rename_glock_; }

  /// The journal of a node that died was replayed on the disk, and the lock space still withholds that node's locks
  /// from everybody: forgets what was cached of it. What the dead node had open is freed afterwards, in the background.
  void journal_recovered(const ReplayReport& report);
  /// Frees in the background what has no links and nobody has open, and moves along what dead nodes had counted.
  void reclaim_orphans();

  bool in_group(const Caller& caller, std::uint32_t gid) const;

  /// If nobody refers to the unlinked inode any more, frees its blocks in the background.
  void reclaim_if_unused(const InodeRef& inode);
  /// Waits until no reclaim is under way (before ENOSPC is reported, at sync points of tests, at unmount).
  Task<void> reclaim_finished();

 private:
  Filesystem(Environment environment, MountOptions options, ondisk::SuperblockInfo superblock);
  Task<Result<>> open();
  Task<Result<>> join_cluster();
  Task<Result<>> replay_journals();
  Result<> forget_replayed(const ReplayReport& report);
  Task<void> keep_totals();
  Task<void> take_over_totals();
  Task<Result<>> take_over_totals_of_others();
  Task<Result<Allocator::SystemFiles>> open_system_files();
  Task<Result<InodeRef>> system_inode(InodeRef directory, std::string name);
  void open_journal();
  void withdrawn(const Error& reason);
  Task<void> reclaim(InodeRef inode);
  Task<Result<>> free_inode(InodeRef inode);
  Task<Result<bool>> may_free(Inode& inode, GlockHolder& iopen);
  Task<void> reclaim_left_over(BlockNo address);
  Task<void> look_again_at_left_over();
  static bool is_looked_after(const InodeRef& known);
  void another_node_left(const InodeRef& known);
  Task<Result<>> reclaim_everything();
  /// Everything is written, in its place, and the journal ends as that of a frozen volume.
  Task<Result<>> come_to_rest();
  Task<Result<>> write_everything();
  Task<void> sweep_unlinked();
  Task<Result<>> reclaim_one_left_over(BlockNo address);
  /// Lets go of everything in memory without writing.
  Task<void> abandon_mount();

  class Keeper;

  Environment environment_;
  MountOptions options_;
  ondisk::SuperblockInfo superblock_;
  ondisk::Geometry geometry_;
  BlockCache cache_;
  GlockTable glocks_;
  std::unique_ptr<GlockKeeper> keeper_;
  GlockHolder journal_glock_;
  GlockRef rename_glock_;
  Volume volume_;
  std::optional<OfflineReplay> own_journal_;
  bool work_left_ = false;           ///< by nodes that died, or whose journals were left frozen
  bool totals_left_ = false;         ///< by nodes that died, in their statfs_change files
  std::set<BlockNo> not_looked_at_;  ///< inodes to be freed by this node, which the disk did not give
  std::unique_ptr<Journal> journal_;
  std::unique_ptr<InodeTable> inodes_;
  std::unique_ptr<Allocator> allocator_;
  std::unique_ptr<MetadataTree> tree_;
  std::unique_ptr<Directories> directories_;
  std::unique_ptr<FileData> data_;
  std::unique_ptr<ExtendedAttributes> attributes_;
  std::unique_ptr<Freezer> freezer_;
  Operations operations_;
  InodeRef root_;
  Event unmounting_;
  bool reclaims_closed_ = false;  ///< others free what is unlinked, from now on
  Semaphore reclaim_slots_;
  std::unique_ptr<Scope> reclaims_;
  std::unique_ptr<Scope> background_;
};

}  // namespace corral
