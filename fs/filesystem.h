/// A mounted volume on this node: puts the parts together, mounts (superblock, system files, journal replay), unmounts,
/// withdraws, frees unlinked inodes.
#pragma once

#include <memory>
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
#include "fs/inode.h"
#include "fs/metadata_tree.h"
#include "fs/mount_options.h"
#include "fs/operations.h"
#include "fs/volume.h"
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
  };

  /// Reads the superblock and the system files, replays dirty journals (not for spectators), opens this node's journal.
  /// Errors name what is wrong and what to do.
  static Task<Result<std::unique_ptr<Filesystem>>> mount(Environment environment, MountOptions options);
  /// Writes everything, leaves the journal clean. The object may only be destroyed afterwards. After a withdraw nothing
  /// is written and the withdraw's error is returned.
  Task<Result<>> unmount();
  ~Filesystem();

  Operations& operations() { return operations_; }
  BlockNo root() const;
  Volume& volume() { return volume_; }
  const ondisk::SuperblockInfo& superblock() const { return superblock_; }
  Journal* journal() { return journal_.get(); }
  Allocator& allocator() { return *allocator_; }
  MetadataTree& tree() { return *tree_; }
  Directories& directories() { return *directories_; }
  FileData& data() { return *data_; }
  ExtendedAttributes& attributes() { return *attributes_; }
  InodeTable& inodes() { return *inodes_; }

  /// If nobody refers to the unlinked inode any more, frees its blocks in the background.
  void reclaim_if_unused(InodeRef inode);
  /// Waits until no reclaim is under way (before ENOSPC is reported, at sync points of tests, at unmount).
  Task<void> reclaim_finished();

 private:
  Filesystem(Environment environment, MountOptions options, ondisk::SuperblockInfo superblock);
  Task<Result<>> open();
  Task<Result<>> open_system_files();
  Task<Result<>> open_journal();
  Task<void> reclaim(InodeRef inode);

  Environment environment_;
  MountOptions options_;
  ondisk::SuperblockInfo superblock_;
  ondisk::Geometry geometry_;
  std::unique_ptr<BlockCache> cache_;
  std::unique_ptr<GlockTable> glocks_;
  Volume volume_;
  std::unique_ptr<Journal> journal_;
  std::unique_ptr<InodeTable> inodes_;
  std::unique_ptr<Allocator> allocator_;
  std::unique_ptr<MetadataTree> tree_;
  std::unique_ptr<Directories> directories_;
  std::unique_ptr<FileData> data_;
  std::unique_ptr<ExtendedAttributes> attributes_;
  Operations operations_;
  Scope background_;
};

}  // namespace corral
