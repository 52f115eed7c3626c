#include "fsck/dinode_mend.h"

#include <algorithm>
#include <bit>

#include <sys/stat.h>

#include "ondisk/dirent_walker.h"
#include "ondisk/validate.h"

namespace corral::fsck {

using namespace ondisk;

namespace {

constexpr std::size_t kMostRepairs = 12;

bool is_file_type(std::uint32_t mode) {
  const std::uint32_t kind = mode & S_IFMT;
  return kind == S_IFREG || kind == S_IFDIR || kind == S_IFLNK || kind == S_IFCHR || kind == S_IFBLK ||
         kind == S_IFIFO || kind == S_IFSOCK;
}

/// Of what a dinode must be whatever the inode is, how much is right.
std::size_t signs_of_dinode(const Dinode& dinode, BlockNo inode, const Volume& volume) {
  const std::uint64_t blocks = dinode.blocks;
  return (dinode.header.magic == kMagic ? 1u : 0u) + (dinode.header.meta_type() == MetaType::dinode ? 1u : 0u) +
         (dinode.header.format == format_of(MetaType::dinode) ? 1u : 0u) + (dinode.num.addr == inode.value ? 1u : 0u) +
         (dinode.num.formal_ino != 0 && dinode.num.formal_ino < kFormalInoLimit ? 1u : 0u) +
         (is_file_type(dinode.mode) && dinode.mode <= 0177777 ? 1u : 0u) +
         (blocks > 0 && blocks <= volume.blocks ? 1u : 0u) + (dinode.height <= volume.geometry.max_height() ? 1u : 0u);
}
constexpr std::size_t kSigns = 8;
constexpr std::size_t kMostMissingSigns = 2;

/// "." comes first in a stuffed directory.
bool begins_with_dot(std::span<const std::byte> block, BlockNo inode) {
  const auto& dirent = view<Dirent>(block, sizeof(Dinode));
  return dirent.inum.addr == inode.value && dirent.name_length == 1 && *dirent.name() == '.';
}

std::uint32_t likely_mode(const Dinode& dinode, std::span<const std::byte> block, BlockNo inode) {
  const bool directory = (dinode.flags & kDinodeHashedDirectory) != 0 || begins_with_dot(block, inode);
  return directory ? S_IFDIR | 0700u : S_IFREG | 0600u;
}

/// One repair, in words; empty if there is none.
std::string mend_identity(Volume& volume, BlockNo inode, std::span<std::byte> block) {
  auto& dinode = view<Dinode>(block);
  if (!has_meta_type(block, MetaType::dinode)) {
    dinode.header.set(MetaType::dinode);
    return "restore its header";
  }
  if (dinode.num.addr != inode.value) {
    dinode.num.addr = inode.value;
    return "set its address";
  }
  if (dinode.num.formal_ino == 0) {
    dinode.num.formal_ino = volume.new_formal_ino();
    return fmt::format("set it to {}", dinode.num.formal_ino.value());
  }
  if (!is_file_type(dinode.mode)) {
    dinode.mode = likely_mode(dinode, block, inode);
    return fmt::format("set it to {:#o}", dinode.mode.value());
  }
  return {};
}

std::string mend_directory(Volume& volume, std::span<std::byte> block) {
  auto& dinode = view<Dinode>(block);
  if ((dinode.flags & kDinodeHashedDirectory) == 0) {
    // It is not hashed as far as one can see, and has a tree: its names are gathered from its leaves.
    dinode.height = 0;
    return "take it as a directory whose table is lost";
  }
  const std::uint64_t slots = dinode.size / sizeof(be64);
  const std::uint32_t least = volume.geometry.first_hash_depth();
  if (std::has_single_bit(slots) && slots <= std::uint64_t{1} << kDirMaxDepth && slots >= 1u << least &&
      dinode.depth != std::countr_zero(slots)) {
    dinode.depth = static_cast<std::uint16_t>(std::countr_zero(slots));
    return fmt::format("set the depth to {}", dinode.depth.value());
  }
  if (dinode.depth < least || dinode.depth > kDirMaxDepth) {
    dinode.depth = static_cast<std::uint16_t>(least);
    return fmt::format("set the depth to {}", least);
  }
  if (dinode.size != sizeof(be64) << dinode.depth) {
    dinode.size = sizeof(be64) << dinode.depth;
    return fmt::format("set the size to {}", dinode.size.value());
  }
  dinode.height =
      static_cast<std::uint16_t>(volume.geometry.height_for_blocks(volume.geometry.directory_data_blocks(dinode.size)));
  return fmt::format("set the height to {}", dinode.height.value());
}

std::string mend_shape(Volume& volume, std::span<std::byte> block) {
  auto& dinode = view<Dinode>(block);
  const Geometry& geometry = volume.geometry;
  const bool tree_allowed = S_ISREG(dinode.mode) || S_ISDIR(dinode.mode);
  if (dinode.height > 0 && !tree_allowed) {
    dinode.height = 0;
    return "set the height to 0";
  }
  if (dinode.height > geometry.max_height()) {
    const std::uint64_t blocks = std::max<std::uint64_t>(1, geometry.blocks_for(dinode.size));
    dinode.height = static_cast<std::uint16_t>(geometry.height_for_blocks(blocks));
    return fmt::format("set the height to {}", dinode.height.value());
  }
  if (S_ISDIR(dinode.mode) && (dinode.flags & kDinodeHashedDirectory) != 0) return mend_directory(volume, block);
  if (dinode.height == 0 && dinode.size > geometry.stuffed_bytes()) {
    dinode.size = geometry.stuffed_bytes();
    return fmt::format("set the size to {}", dinode.size.value());
  }
  if (dinode.size >> 63 != 0) {
    const std::uint64_t reach = dinode.height == 0 ? 0 : geometry.height_capacity_blocks(dinode.height);
    dinode.size = std::min(reach << geometry.block_shift(), (std::uint64_t{1} << 63) - 1);
    return fmt::format("set the size to {}", dinode.size.value());
  }
  if (S_ISDIR(dinode.mode)) return mend_directory(volume, block);
  if (dinode.depth > kDirMaxDepth) {
    dinode.depth = 0;
    return "set the depth to 0";
  }
  return {};
}

}  // namespace

bool mend_dinode(Volume& volume, BlockNo inode, std::span<std::byte> block) {
  if (signs_of_dinode(view<Dinode>(block), inode, volume) + kMostMissingSigns < kSigns) return false;
  struct Repair {
    std::string problem;
    std::string repair;
  };
  BlockBytes better(block.begin(), block.end());
  std::vector<Repair> repairs;
  for (;;) {
    auto sound = check_dinode(better, inode, volume.geometry);
    if (sound) break;
    std::string repair = mend_identity(volume, inode, better);
    if (repair.empty()) repair = mend_shape(volume, better);
    if (repair.empty() || repairs.size() == kMostRepairs) return false;
    repairs.push_back({sound.error().describe(), std::move(repair)});
  }
  // Only what leads to a sound inode is worth a question.
  for (Repair& one : repairs)
    if (!volume.found(Kind::dinode, inode, std::move(one.problem), std::move(one.repair))) return false;
  std::ranges::copy(better, block.begin());
  volume.write(inode, block);
  return true;
}

}  // namespace corral::fsck
