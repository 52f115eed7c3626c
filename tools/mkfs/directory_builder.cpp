#include "tools/mkfs/directory_builder.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include <dirent.h>

#include "base/check.h"
#include "ondisk/checksum.h"
#include "tools/mkfs/file_tree.h"

namespace corral::mkfs {

using namespace ondisk;

namespace {
constexpr std::uint32_t kHashBits = 32;

}  // namespace

DirectoryBuilder::DirectoryBuilder(const Geometry& geometry) : geometry_(geometry) {
  add(".", DT_DIR);
  add("..", DT_DIR);
}

void DirectoryBuilder::add(std::string_view name, std::uint8_t type) {
  CHECK_INVARIANT(!name.empty() && name.size() <= kNameMaxBytes);
  entries_.push_back({std::string(name), type, {}});
}

DirectoryBuilder::Indexes DirectoryBuilder::all_entries() const {
  Indexes indexes(entries_.size());
  std::iota(indexes.begin(), indexes.end(), std::size_t{0});
  return indexes;
}

std::size_t DirectoryBuilder::dirents_bytes(const Indexes& which) const {
  std::size_t sum = 0;
  for (std::size_t index : which)
    sum += dirent_bytes(entries_[index].name.size());
  return sum;
}

bool DirectoryBuilder::is_stuffed() const {
  return dirents_bytes(all_entries()) <= geometry_.stuffed_bytes();
}

void DirectoryBuilder::split(Indexes entries, std::uint32_t depth, std::vector<LeafPlan>& leaves) const {
  if (dirents_bytes(entries) <= geometry_.leaf_bytes()) {
    leaves.push_back({depth, std::move(entries)});
    return;
  }
  CHECK_INVARIANT(depth < kDirMaxDepth);
  auto upper = std::partition(entries.begin(), entries.end(), [&](std::size_t index) {
    return (name_hash(entries_[index].name) >> (kHashBits - 1 - depth) & 1) == 0;
  });
  split({entries.begin(), upper}, depth + 1, leaves);
  split({upper, entries.end()}, depth + 1, leaves);
}

std::vector<DirectoryBuilder::LeafPlan> DirectoryBuilder::plan_leaves() const {
  std::vector<LeafPlan> leaves;
  split(all_entries(), 0, leaves);
  return leaves;
}

std::uint32_t DirectoryBuilder::table_depth(const std::vector<LeafPlan>& leaves) const {
  std::uint32_t depth = geometry_.first_hash_depth();
  for (const LeafPlan& leaf : leaves)
    depth = std::max(depth, leaf.depth);
  return depth;
}

std::uint64_t DirectoryBuilder::table_data_blocks(std::uint32_t depth) const {
  const std::uint64_t bytes = sizeof(be64) << depth;
  if (bytes <= geometry_.stuffed_bytes()) return 0;
  return geometry_.directory_data_blocks(bytes);
}

std::uint64_t DirectoryBuilder::table_tree_blocks(std::uint32_t depth) const {
  const std::uint64_t data_blocks = table_data_blocks(depth);
  return data_blocks == 0 ? 1 : FileTree(geometry_, BlockNo(0), data_blocks).blocks();
}

std::uint64_t DirectoryBuilder::blocks() const {
  if (is_stuffed()) return 1;
  const auto leaves = plan_leaves();
  return table_tree_blocks(table_depth(leaves)) + leaves.size();
}

void DirectoryBuilder::write_dirents(const Indexes& which, std::span<std::byte> block, std::size_t offset) const {
  if (which.empty()) {
    view<Dirent>(block, offset).record_length = static_cast<std::uint16_t>(block.size() - offset);
    return;
  }
  for (std::size_t index : which) {
    const Entry& entry = entries_[index];
    const bool last = index == which.back();
    const std::size_t length = last ? block.size() - offset : dirent_bytes(entry.name.size());
    auto& dirent = view<Dirent>(block, offset);
    dirent.inum = entry.inode;
    dirent.hash = name_hash(entry.name);
    dirent.record_length = static_cast<std::uint16_t>(length);
    dirent.name_length = static_cast<std::uint16_t>(entry.name.size());
    dirent.type = entry.type;
    std::memcpy(dirent.name(), entry.name.data(), entry.name.size());
    offset += length;
  }
}

BlockBytes DirectoryBuilder::make_leaf(const LeafPlan& plan, const Dinode& dinode) const {
  BlockBytes block(geometry_.block_size());
  auto& leaf = view<Leaf>(block);
  leaf.header.set(MetaType::leaf);
  leaf.depth = static_cast<std::uint16_t>(plan.depth);
  leaf.entries = static_cast<std::uint16_t>(plan.entries.size());
  leaf.dirent_format = kFormatDirent;
  leaf.inode = dinode.num.addr;
  leaf.distance = 1;
  leaf.seconds = dinode.mtime;
  leaf.nanoseconds = dinode.mtime_nanoseconds;
  write_dirents(plan.entries, block, sizeof(Leaf));
  return block;
}

void DirectoryBuilder::write_table(const std::vector<LeafPlan>& leaves, std::uint32_t depth,
                                   std::vector<BlockBytes>& blocks) const {
  const BlockNo self(view<Dinode>(blocks[0]).num.addr);
  const BlockNo first_leaf = self + table_tree_blocks(depth);
  BlockBytes table;
  for (std::size_t i = 0; i < leaves.size(); ++i) {
    const be64 pointer = (first_leaf + i).value;
    for (std::uint32_t n = 0; n < 1u << (depth - leaves[i].depth); ++n) {
      auto bytes = std::as_bytes(std::span(&pointer, 1));
      table.insert(table.end(), bytes.begin(), bytes.end());
    }
  }
  const std::uint64_t data_blocks = table_data_blocks(depth);
  if (data_blocks == 0) {
    std::memcpy(blocks[0].data() + sizeof(Dinode), table.data(), table.size());
    return;
  }
  const FileTree tree(geometry_, self, data_blocks);
  view<Dinode>(blocks[0]).height = static_cast<std::uint16_t>(tree.height());
  tree.fill_dinode_pointers(blocks[0]);
  for (BlockNo address = self + 1; address < tree.first_data(); ++address)
    tree.fill_indirect(address, blocks.emplace_back(geometry_.block_size()));
  const std::size_t payload = geometry_.directory_data_bytes();
  for (std::size_t at = 0; at < table.size(); at += payload) {
    BlockBytes& block = blocks.emplace_back(geometry_.block_size());
    view<MetaHeader>(block).set(MetaType::journaled_data);
    std::memcpy(block.data() + sizeof(MetaHeader), table.data() + at, std::min(payload, table.size() - at));
  }
}

std::vector<BlockBytes> DirectoryBuilder::build(Dinode dinode, const InodeIdentity& parent,
                                                std::span<const InodeIdentity> children) {
  constexpr std::size_t kDotEntries = 2;
  CHECK_INVARIANT(children.size() == entries_.size() - kDotEntries);
  entries_[0].inode = dinode.num;
  entries_[1].inode = parent;
  for (std::size_t i = 0; i < children.size(); ++i)
    entries_[kDotEntries + i].inode = children[i];
  dinode.entries = entries();
  dinode.blocks = blocks();
  std::vector<BlockBytes> blocks(1, BlockBytes(geometry_.block_size()));
  auto& head = view<Dinode>(blocks[0]);
  head = dinode;
  if (is_stuffed()) {
    head.size = geometry_.stuffed_bytes();
    head.payload_format = kFormatDirent;
    write_dirents(all_entries(), blocks[0], sizeof(Dinode));
    return blocks;
  }
  const auto leaves = plan_leaves();
  const std::uint32_t depth = table_depth(leaves);
  head.flags = dinode.flags | kDinodeHashedDirectory;
  head.depth = static_cast<std::uint16_t>(depth);
  head.size = sizeof(be64) << depth;
  write_table(leaves, depth, blocks);
  for (const LeafPlan& leaf : leaves)
    blocks.push_back(make_leaf(leaf, dinode));
  return blocks;
}

}  // namespace corral::mkfs
