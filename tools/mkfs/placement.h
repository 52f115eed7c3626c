/// Where a new volume's resource groups and preallocated files go, computed from options and device alone.
///
/// First come the nodes' groups: node i's holds journal i and that node's own small files and nothing else, so nodes do
/// not meet in them. Behind them the space is divided evenly into general groups; the first holds the volume's other
/// system files. All that is allocated in a group lies at the start of its data.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/result.h"
#include "base/strong.h"
#include "disk/device.h"
#include "ondisk/geometry.h"
#include "ondisk/group_shape.h"
#include "tools/mkfs/file_tree.h"
#include "tools/mkfs/options.h"

namespace corral::mkfs {

struct PlacedGroup {
  BlockNo addr;
  ondisk::GroupShape shape;
  std::uint32_t skip = 0;          ///< blocks to the next group, 0 for the last
  std::uint64_t used = 0;          ///< allocated blocks at the start of the data
  std::vector<BlockNo> dinodes{};  ///< those of them that are dinodes, ascending

  BlockNo data0() const { return addr + shape.length; }
  std::uint64_t free() const { return shape.data - used; }
};

/// The files of one node, all in one group.
struct NodeFiles {
  FileTree journal;
  BlockNo inum_range;
  BlockNo statfs_change;
  FileTree quota_change;

  std::uint64_t blocks() const { return quota_change.dinode() + quota_change.blocks() - journal.dinode(); }
};

/// Blocks of the volume-wide system files, in the first general group.
struct SystemFiles {
  BlockNo root;
  BlockNo master;
  BlockNo jindex;
  BlockNo per_node;
  BlockNo inum;
  BlockNo statfs;
  BlockNo quota;
  BlockNo rindex;
  std::uint64_t rindex_data_blocks;  ///< 0: stuffed
  std::optional<FileTree> cluster_area{};
};

/// How many blocks the directories take; they depend on names alone.
struct DirectorySizes {
  std::uint64_t master_blocks = 1;
  std::uint64_t jindex_blocks = 1;
  std::uint64_t per_node_blocks = 1;
};

struct Placement {
  ondisk::Geometry geometry;
  std::uint64_t volume_blocks = 0;
  std::uint32_t journal_mebibytes = 0;
  ondisk::GroupAlignment alignment{};
  std::vector<PlacedGroup> groups{};  ///< the nodes' first, then the general ones
  std::vector<NodeFiles> nodes{};
  SystemFiles system{};

  const PlacedGroup& first_general() const { return groups[nodes.size()]; }
};

/// Options that passed check_options(). EINVAL where they do not suit the device, ENOSPC where it is too small: the
/// message tells what would do.
Result<Placement> place_volume(const FormatOptions& options, const DeviceGeometry& device,
                               const DirectorySizes& directories);

}  // namespace corral::mkfs
