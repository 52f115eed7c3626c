/// The contents of every block of a new volume that is written, made block by block on demand, so that a volume of any
/// size takes no memory to speak of and the same plan can be written to a device, or compared with one.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/strong.h"
#include "disk/device.h"
#include "tools/mkfs/directory_builder.h"
#include "tools/mkfs/options.h"
#include "tools/mkfs/placement.h"

namespace corral::mkfs {

/// A run of blocks that are written.
struct WrittenRange {
  BlockNo start;
  std::uint64_t blocks;
};

class VolumeImage {
 public:
  /// Checks the options and lays the volume out. Errors as check_options() and place_volume() give them.
  static Result<VolumeImage> plan(const FormatOptions& options, const DeviceGeometry& device);

  const FormatOptions& options() const { return options_; }
  const Placement& placement() const { return placement_; }
  const ondisk::Geometry& geometry() const { return placement_.geometry; }

  /// Every block that is written except the superblock, ascending, none twice.
  std::vector<WrittenRange> written_ranges() const;
  /// Makes block `address`, which lies in one of the written ranges; `block` is one block of zeros.
  void fill(BlockNo address, std::span<std::byte> block) const;
  /// Makes the superblock; `block` is one block of zeros.
  void fill_superblock(std::span<std::byte> block) const;

 private:
  VolumeImage(const FormatOptions& options, Placement placement);

  void name_inodes();
  ondisk::InodeIdentity new_inode(BlockNo address);
  ondisk::Dinode new_dinode(const ondisk::InodeIdentity& inode, std::uint32_t mode, std::uint32_t flags) const;
  ondisk::Dinode new_directory(const ondisk::InodeIdentity& inode, std::uint32_t mode, std::uint32_t flags,
                               std::uint32_t subdirectories) const;
  void make_directories();
  void make_small_files();
  void keep(std::vector<BlockBytes> directory);
  template <class Contents>
  void keep_stuffed(const ondisk::InodeIdentity& inode, std::uint32_t payload_format, const Contents& contents);

  void fill_group_block(const PlacedGroup& group, std::uint64_t index, std::span<std::byte> block) const;
  void fill_bitmap(const PlacedGroup& group, std::uint64_t first_data_block, std::span<std::byte> bytes) const;
  void fill_node_block(std::size_t node, BlockNo address, std::span<std::byte> block) const;
  void fill_log_header(const NodeFiles& files, BlockNo address, std::span<std::byte> block) const;
  void fill_tree_dinode(const FileTree& tree, const ondisk::InodeIdentity& inode, std::uint64_t size,
                        std::span<std::byte> block) const;
  void fill_area_block(const FileTree& area, BlockNo address, std::span<std::byte> block) const;
  void fill_rindex_block(BlockNo address, std::span<std::byte> block) const;
  ondisk::ResourceGroupIndexEntry rindex_entry(std::size_t group) const;

  struct NodeInodes {
    ondisk::InodeIdentity journal;
    ondisk::InodeIdentity inum_range;
    ondisk::InodeIdentity statfs_change;
    ondisk::InodeIdentity quota_change;
  };
  struct SystemInodes {
    ondisk::InodeIdentity root, master, jindex, per_node, inum, statfs, quota, rindex, cluster_area;
  };

  FormatOptions options_;
  Placement placement_;
  std::uint64_t next_formal_ino_ = 1;
  std::vector<NodeInodes> node_inodes_;
  SystemInodes system_inodes_{};
  std::map<BlockNo, BlockBytes> kept_;  ///< directories and stuffed files
  BlockBytes area_;                     ///< contents of the cluster area, if there is one
};

}  // namespace corral::mkfs
