/// What all passes share: the working copy of the volume, what is known of it so far, and where findings go.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "fsck/block_map.h"
#include "fsck/findings.h"
#include "fsck/inode_table.h"
#include "fsck/working_copy.h"
#include "ondisk/geometry.h"
#include "ondisk/layout.h"

namespace corral::fsck {

using BlockBytes = std::vector<std::byte>;

/// Told what is being done and how far it is; `total` 0: not known.
using Progress = std::function<void(std::string_view phase, std::uint64_t done, std::uint64_t total)>;

/// No volume has seen so many inodes.
constexpr std::uint64_t kFormalInoLimit = std::uint64_t{1} << 56;

/// A directory whose structure is broken.
struct DamagedDirectory {
  std::string fault;            ///< what is wrong with it
  std::vector<BlockNo> blocks;  ///< those besides the dinode that it has claimed
};

class Volume {
 public:
  /// `superblock` passed parse_superblock() on the working copy.
  Volume(WorkingCopy& copy, Findings& found, Progress tell, const ondisk::Superblock& checked)
      : disk(copy),
        findings(found),
        progress(std::move(tell)),
        superblock(checked),
        geometry(checked.block_size),
        blocks(copy.geometry().size_bytes >> geometry.block_shift()) {}

  /// Any block within the volume (checked).
  Task<Result<BlockBytes>> read(BlockNo block);
  /// Into the working copy.
  void write(BlockNo block, std::span<const std::byte> bytes) { disk.put(geometry.offset_bytes(block), bytes); }
  /// The finding's words in one go; true if it is to be repaired.
  bool found(Kind kind, BlockNo block, std::string problem, std::string repair) {
    return findings.add({kind, block, std::move(problem), std::move(repair)});
  }
  /// What became of a repair. One that could not be made is counted, and is no reason to stop, unless the device
  /// failed.
  Result<> excuse(Result<> done);
  BlockNo root() const { return BlockNo(superblock.root_dir.addr); }
  BlockNo master() const { return BlockNo(superblock.master_dir.addr); }
  /// A formal inode number that no inode has.
  std::uint64_t new_formal_ino() { return next_formal_ino++; }

  WorkingCopy& disk;
  Findings& findings;
  Progress progress;
  ondisk::Superblock superblock;
  ondisk::Geometry geometry;
  std::uint64_t blocks;
  BlockMap map;
  InodeTable inodes;
  std::uint64_t next_formal_ino = 1;  ///< above all that were seen
  std::set<BlockNo> duplicates;       ///< blocks with more than one claim
  std::map<BlockNo, DamagedDirectory> damaged_directories;
};

}  // namespace corral::fsck
