/// Reads a GFS2 volume straight from the device: inodes, file contents, directories. For tools that work on a volume
/// that is not mounted, and for finding journals before there is a filesystem.
///
/// No cache, no locks, no writes. Every block is untrusted: an error (of kind corrupt) names the block, and no contents
/// of the volume can make it loop, or read more than the caller's limit. All calls suspend.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/aligned_buffer.h"
#include "base/result.h"
#include "base/strong.h"
#include "base/task.h"
#include "disk/device.h"
#include "ondisk/geometry.h"
#include "ondisk/layout.h"
#include "ondisk/validate.h"

namespace corral {

/// A dinode's block, checked.
class OfflineInode {
 public:
  OfflineInode(BlockNo number, AlignedBuffer block) : number_(number), block_(std::move(block)) {}
  BlockNo number() const { return number_; }
  std::span<const std::byte> block() const { return block_.span(); }
  const ondisk::Dinode& dinode() const { return ondisk::view<ondisk::Dinode>(block()); }
  std::uint64_t size_bytes() const { return dinode().size; }
  bool is_directory() const;
  bool is_hashed_directory() const { return is_directory() && has_flag(ondisk::kDinodeHashedDirectory); }
  bool has_flag(std::uint32_t flag) const { return (dinode().flags & flag) != 0; }

 private:
  BlockNo number_;
  AlignedBuffer block_;
};

/// Blocks of a file that lie one behind the other on the device.
struct FileExtent {
  FileBlock first;
  BlockNo start;
  std::uint64_t length;
};

struct OfflineDirent {
  std::string name;
  BlockNo inode;
  std::uint64_t formal_ino;
  std::uint16_t type;  ///< DT_*
};

class VolumeReader {
 public:
  /// Reads and checks the superblock. EINVAL where the device holds no GFS2 volume, or cannot hold one of that block
  /// size.
  static Task<Result<VolumeReader>> open(Device& device);

  const ondisk::SuperblockInfo& superblock() const { return superblock_; }
  const ondisk::Geometry& geometry() const { return superblock_.geometry; }
  Device& device() const { return *device_; }
  std::uint64_t volume_blocks() const { return device_->geometry().size_bytes >> geometry().block_shift(); }

  /// Any block of the volume.
  Task<Result<AlignedBuffer>> read_block(BlockNo block) const;
  Task<Result<OfflineInode>> read_inode(BlockNo number) const;

  /// Where the file's blocks below file block `end` lie; holes are left out. Nothing for stuffed files.
  Task<Result<std::vector<FileExtent>>> map(const OfflineInode& inode, FileBlock end) const;
  /// The whole contents; EFBIG if there are more than `limit_bytes`. Of a hashed directory: its table.
  Task<Result<std::vector<std::byte>>> read_contents(const OfflineInode& inode, std::uint64_t limit_bytes) const;
  /// All entries, "." and ".." too, in the order in which they are stored. ENOTDIR.
  Task<Result<std::vector<OfflineDirent>>> list(const OfflineInode& directory) const;
  /// The inode of that name. ENOENT, ENOTDIR.
  Task<Result<OfflineInode>> find(const OfflineInode& directory, std::string name) const;
  /// A file below the master directory, such as "jindex" or "per_node/statfs_change0".
  Task<Result<OfflineInode>> system_file(std::string path) const;

 private:
  struct TreeWalk;
  VolumeReader(Device& device, ondisk::SuperblockInfo superblock)
      : device_(&device), superblock_(std::move(superblock)) {}
  Task<Result<>> walk_tree(TreeWalk& walk, BlockNo holder, std::span<const ondisk::be64> pointers, std::uint32_t height,
                           std::uint64_t first) const;
  Task<Result<>> list_leaves(const OfflineInode& directory, std::vector<OfflineDirent>& entries) const;

  Device* device_;
  ondisk::SuperblockInfo superblock_;
};

}  // namespace corral
