#include "fsck/directory_layout.h"

#include <algorithm>
#include <cstring>
#include <tuple>

#include "fsck/new_blocks.h"
#include "fsck/walk_policies.h"
#include "ondisk/checksum.h"
#include "ondisk/dirent_walker.h"

namespace corral::fsck {

using namespace ondisk;

namespace {

constexpr std::uint32_t kHashBits = 32;

struct HashedEntry {
  NameEntry entry;
  std::uint32_t hash;
  std::size_t bytes() const { return dirent_bytes(entry.name.size()); }
};
using Entries = std::span<HashedEntry>;

std::size_t bytes_of(std::span<const HashedEntry> entries) {
  std::size_t sum = 0;
  for (const HashedEntry& entry : entries)
    sum += entry.bytes();
  return sum;
}

/// The leaves, in order of hash, of which those with `chained` follow the one before them.
struct LeafPlan {
  std::uint32_t depth;
  bool chained;
  Entries entries;
};

class Layout {
 public:
  Layout(Volume& volume, BlockNo directory, std::vector<NameEntry> entries);

  bool stuffed() const { return bytes_of(entries_) <= volume_.geometry.stuffed_bytes(); }
  void plan();
  std::uint64_t blocks() const { return leaves_.size() + table_data_ + table_indirects_; }
  /// Writes all blocks but the dinode, which it fills in.
  void write(std::span<const BlockNo> blocks, std::span<std::byte> dinode);
  void write_stuffed(std::span<std::byte> dinode);

 private:
  void split(Entries entries, std::uint32_t depth);
  void write_dirents(Entries entries, std::span<std::byte> block, std::size_t offset) const;
  void write_leaf(std::size_t index, std::span<const BlockNo> blocks, std::uint64_t seconds);
  BlockBytes table(std::span<const BlockNo> leaf_blocks) const;

  Volume& volume_;
  BlockNo directory_;
  std::vector<HashedEntry> entries_;  ///< in order of hash
  std::vector<LeafPlan> leaves_;
  std::uint32_t depth_ = 0;
  std::uint64_t table_data_ = 0;
  std::uint64_t table_indirects_ = 0;
};

Layout::Layout(Volume& volume, BlockNo directory, std::vector<NameEntry> entries)
    : volume_(volume), directory_(directory) {
  for (NameEntry& entry : entries) {
    const std::uint32_t hash = name_hash(entry.name);
    entries_.push_back({std::move(entry), hash});
  }
  // By name where hashes are equal: the same names lead to the same leaves.
  std::ranges::sort(entries_, [](const HashedEntry& a, const HashedEntry& b) {
    return std::tie(a.hash, a.entry.name) < std::tie(b.hash, b.entry.name);
  });
}

void Layout::split(Entries entries, std::uint32_t depth) {
  const std::size_t room = volume_.geometry.leaf_bytes();
  if (bytes_of(entries) <= room) {
    leaves_.push_back({depth, false, entries});
    return;
  }
  if (depth == kDirMaxDepth) {
    bool chained = false;
    while (!entries.empty()) {
      std::size_t count = 0;
      for (std::size_t bytes = 0; count < entries.size() && bytes + entries[count].bytes() <= room; ++count)
        bytes += entries[count].bytes();
      leaves_.push_back({depth, chained, entries.first(count)});
      entries = entries.subspan(count);
      chained = true;
    }
    return;
  }
  auto upper = std::ranges::find_if(
      entries, [depth](const HashedEntry& entry) { return (entry.hash >> (kHashBits - 1 - depth) & 1) != 0; });
  const auto lower = static_cast<std::size_t>(upper - entries.begin());
  split(entries.first(lower), depth + 1);
  split(entries.subspan(lower), depth + 1);
}

void Layout::plan() {
  split(entries_, 0);
  depth_ = volume_.geometry.first_hash_depth();
  for (const LeafPlan& leaf : leaves_)
    depth_ = std::max(depth_, leaf.depth);
  const std::uint64_t bytes = sizeof(be64) << depth_;
  if (bytes > volume_.geometry.stuffed_bytes()) table_data_ = volume_.geometry.directory_data_blocks(bytes);
  table_indirects_ = indirect_blocks(volume_.geometry, table_data_);
}

void Layout::write_dirents(Entries entries, std::span<std::byte> block, std::size_t offset) const {
  std::fill(block.begin() + static_cast<std::ptrdiff_t>(offset), block.end(), std::byte{0});
  if (entries.empty()) view<Dirent>(block, offset).record_length = static_cast<std::uint16_t>(block.size() - offset);
  for (std::size_t i = 0; i < entries.size(); ++i) {
    const NameEntry& entry = entries[i].entry;
    const std::size_t length = i + 1 == entries.size() ? block.size() - offset : entries[i].bytes();
    auto& dirent = view<Dirent>(block, offset);
    dirent.inum = entry.inode;
    dirent.hash = entries[i].hash;
    dirent.record_length = static_cast<std::uint16_t>(length);
    dirent.name_length = static_cast<std::uint16_t>(entry.name.size());
    dirent.type = entry.type;
    std::memcpy(dirent.name(), entry.name.data(), entry.name.size());
    offset += length;
  }
}

void Layout::write_stuffed(std::span<std::byte> block) {
  auto& dinode = view<Dinode>(block);
  write_dirents(entries_, block, sizeof(Dinode));
  dinode.flags = dinode.flags & ~kDinodeHashedDirectory;
  dinode.size = volume_.geometry.stuffed_bytes();
  dinode.height = 0;
  dinode.depth = 0;
  dinode.payload_format = kFormatDirent;
  dinode.entries = static_cast<std::uint32_t>(entries_.size());
}

void Layout::write_leaf(std::size_t index, std::span<const BlockNo> blocks, std::uint64_t seconds) {
  const LeafPlan& plan = leaves_[index];
  BlockBytes block(volume_.geometry.block_size());
  auto& leaf = view<Leaf>(block);
  leaf.header.set(MetaType::leaf);
  leaf.depth = static_cast<std::uint16_t>(plan.depth);
  leaf.entries = static_cast<std::uint16_t>(plan.entries.size());
  leaf.dirent_format = kFormatDirent;
  if (index + 1 < leaves_.size() && leaves_[index + 1].chained) leaf.next = blocks[index + 1].value;
  leaf.inode = directory_.value;
  leaf.distance = 1;
  leaf.seconds = seconds;
  write_dirents(plan.entries, block, sizeof(Leaf));
  volume_.write(blocks[index], block);
}

BlockBytes Layout::table(std::span<const BlockNo> leaf_blocks) const {
  BlockBytes bytes(sizeof(be64) << depth_);
  auto slots = pointers(std::span<std::byte>(bytes), 0);
  std::size_t slot = 0;
  for (std::size_t i = 0; i < leaves_.size(); ++i) {
    if (leaves_[i].chained) continue;
    for (std::uint32_t n = 0; n < 1u << (depth_ - leaves_[i].depth); ++n)
      slots[slot++] = leaf_blocks[i].value;
  }
  CHECK_INVARIANT(slot == slots.size());
  return bytes;
}

void Layout::write(std::span<const BlockNo> blocks, std::span<std::byte> block) {
  auto& dinode = view<Dinode>(block);
  const auto leaf_blocks = blocks.first(leaves_.size());
  const auto data_blocks = blocks.subspan(leaves_.size(), table_data_);
  for (std::size_t i = 0; i < leaves_.size(); ++i)
    write_leaf(i, leaf_blocks, dinode.mtime);
  const BlockBytes table_bytes = table(leaf_blocks);
  dinode.height = 0;
  if (table_data_ == 0) {
    std::fill(block.begin() + sizeof(Dinode), block.end(), std::byte{0});
    std::memcpy(block.data() + sizeof(Dinode), table_bytes.data(), table_bytes.size());
  } else {
    const std::size_t payload = volume_.geometry.directory_data_bytes();
    for (std::size_t i = 0; i < table_data_; ++i) {
      BlockBytes part(volume_.geometry.block_size());
      view<MetaHeader>(part).set(MetaType::journaled_data);
      std::memcpy(part.data() + sizeof(MetaHeader), table_bytes.data() + i * payload,
                  std::min(payload, table_bytes.size() - i * payload));
      volume_.write(data_blocks[i], part);
    }
    write_tree(volume_, data_blocks, blocks.subspan(leaves_.size() + table_data_), block);
  }
  dinode.flags = dinode.flags | kDinodeHashedDirectory;
  dinode.size = table_bytes.size();
  dinode.depth = static_cast<std::uint16_t>(depth_);
  dinode.payload_format = 0;
  dinode.entries = static_cast<std::uint32_t>(entries_.size());
}

/// New blocks, or old ones where there are not enough: `old_blocks` have been given up.
std::optional<std::vector<BlockNo>> blocks_for(Volume& volume, std::uint64_t count,
                                               std::span<const BlockNo> old_blocks) {
  auto blocks = take_blocks(volume, count, Use::metadata);
  if (blocks || old_blocks.size() < count) return blocks;
  blocks.emplace(old_blocks.begin(), old_blocks.begin() + static_cast<std::ptrdiff_t>(count));
  for (BlockNo block : *blocks)
    volume.map.set_use(block, Use::metadata);
  return blocks;
}

/// Gathers the names of a directory.
class Gather final : public FollowBlocks {
 public:
  using FollowBlocks::FollowBlocks;
  void see_entry(const Dirent& dirent) override {
    entries.push_back({std::string(name_of(dirent)), dirent.inum, static_cast<std::uint8_t>(dirent.type)});
  }
  std::vector<NameEntry> entries;
};

}  // namespace

Task<Result<>> lay_out_directory(Volume& volume, BlockNo directory, std::vector<NameEntry> entries,
                                 std::span<const BlockNo> old_blocks) {
  CO_TRY(BlockBytes block, co_await volume.read(directory));
  Layout layout(volume, directory, std::move(entries));
  std::vector<BlockNo> given_up;
  for (BlockNo old : old_blocks) {
    if (volume.duplicates.contains(old)) continue;
    volume.map.set_use(old, Use::none);
    given_up.push_back(old);
  }
  if (layout.stuffed()) {
    layout.write_stuffed(block);
  } else {
    layout.plan();
    auto blocks = blocks_for(volume, layout.blocks(), given_up);
    if (!blocks) {
      for (BlockNo old : given_up)
        volume.map.set_use(old, Use::metadata);
      co_return fail(ENOSPC, "directory {}: no {} free blocks to lay it out anew", directory.value, layout.blocks());
    }
    layout.write(*blocks, block);
  }
  // Extended attributes stay where they are and count, too.
  FollowBlocks follow(volume);
  InodeWalk walk(volume, directory, block, follow);
  CO_TRY_VOID(co_await walk.run());
  view<Dinode>(block).blocks = walk.blocks();
  volume.write(directory, block);
  co_return Result<>{};
}

Task<Result<DirectoryContents>> read_directory(Volume& volume, BlockNo directory) {
  CO_TRY(BlockBytes block, co_await volume.read(directory));
  view<Dinode>(block).eattr = 0;
  Gather gather(volume);
  InodeWalk walk(volume, directory, block, gather);
  CO_TRY_VOID(co_await walk.run());
  co_return DirectoryContents{std::move(gather.entries), walk.directory_blocks()};
}

}  // namespace corral::fsck
