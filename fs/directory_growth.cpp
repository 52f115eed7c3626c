#include "fs/directory_growth.h"

#include <algorithm>

#include "base/check.h"
#include "fs/dirent_block.h"

namespace corral {

using ondisk::be64;
using ondisk::Dinode;
using ondisk::Dirent;
using ondisk::Leaf;

namespace {

DirentDemand demand_of(const HashedName& name) {
  return {name.hash, ondisk::dirent_bytes(name.name.size())};
}

/// What the dirents of a scanned block need.
std::vector<DirentDemand> demands_in(const Block& block) {
  std::vector<DirentDemand> demands;
  auto walked = for_each_dirent(block.bytes(), block.number(), [&](const Dirent& dirent) {
    demands.push_back({dirent.hash, ondisk::dirent_bytes(dirent.name_length)});
  });
  CHECK_INVARIANT(walked.has_value());
  return demands;
}

void set_time(Leaf& leaf, WallTime now) {
  leaf.seconds = static_cast<std::uint64_t>(now.seconds);
  leaf.nanoseconds = now.nanoseconds;
}

/// The dinode of a stuffed directory becomes a hash table that points to `leaf` throughout.
void make_hashed(Transaction& transaction, const LockedInode& directory, BlockNo leaf,
                 const ondisk::Geometry& geometry) {
  auto bytes = transaction.modify(directory.block());
  std::fill(bytes.begin() + sizeof(Dinode), bytes.end(), std::byte{0});
  const std::uint32_t pointers = geometry.first_hash_pointers();
  std::ranges::fill(ondisk::pointers(bytes, sizeof(Dinode)).first(pointers), be64(leaf.value));
  auto& dinode = ondisk::view<Dinode>(bytes);
  dinode.flags = dinode.flags | ondisk::kDinodeHashedDirectory;
  dinode.depth = static_cast<std::uint16_t>(geometry.first_hash_depth());
  dinode.size = pointers * sizeof(be64);
  dinode.payload_format = 0;
}

/// Takes single blocks, whatever runs they come in.
Result<std::vector<BlockNo>> take_leaves(Transaction& transaction, Allotment& allotment, std::uint32_t count,
                                         Ownership owner) {
  std::vector<BlockNo> blocks;
  blocks.reserve(count);
  while (blocks.size() < count) {
    TRY(Extent extent, allotment.take_blocks(transaction, static_cast<std::uint32_t>(count - blocks.size()), owner));
    for (std::uint32_t i = 0; i < extent.length; ++i)
      blocks.push_back(extent.start + i);
  }
  return blocks;
}

}  // namespace

Task<Result<DirectoryGrowth>> DirectoryGrowth::prepare_stuffed(Volume& volume, MetadataTree& tree,
                                                               DirectoryTable& table, const LockedInode& directory,
                                                               const HashedName& name) {
  DirectoryGrowth growth;
  growth.becomes_hashed_ = true;
  const auto capacity = volume.geometry.leaf_bytes();
  const std::uint32_t table_depth = volume.geometry.first_hash_depth();
  growth.plan_ = plan_growth(demands_in(directory.block()), demand_of(name), capacity, 0, table_depth);
  CO_TRY_VOID(co_await growth.reserve(tree, table, directory, table_depth));
  co_return growth;
}

Task<Result<DirectoryGrowth>> DirectoryGrowth::prepare_hashed(MetadataTree& tree, DirectoryTable& table,
                                                              const LockedInode& directory, const HashedName& name,
                                                              BlockRef first, BlockRef last, std::uint32_t length) {
  DirectoryGrowth growth;
  growth.chain_length_ = length;
  const std::uint32_t depth = first->as<Leaf>().depth;
  const std::uint32_t table_depth = directory.dinode().depth;
  auto others = demands_in(*first);
  for (const DirentDemand& other : others)
    if (hash_prefix(other.hash, depth) != hash_prefix(name.hash, depth))
      co_return fail_corrupt("directory {}: leaf {} holds hash {:#010x}, expected the upper {} bits of {:#010x}",
                             directory.address().value, first->number().value, other.hash, depth, name.hash);
  if (length > 1)
    growth.plan_.chains = true;
  else
    growth.plan_ =
        plan_growth(std::move(others), demand_of(name), dirent_capacity_bytes(first->bytes()), depth, table_depth);
  if (growth.plan_.splits > 0) {
    const LeafSpan span = leaf_span(DirectoryTable::index_of(directory, name.hash), depth, table_depth);
    const bool all = growth.plan_.doublings > 0;
    CO_TRY(growth.table_,
           co_await table.load(directory, all ? 0 : span.first, all ? DirectoryTable::size(directory) : span.count));
    for (std::uint32_t index = span.first; index < span.end(); ++index)
      if (growth.table_.pointer(index) != first->number())
        co_return fail_corrupt("directory {}: entry {} of the hash table is {}, expected {} (leaf of depth {})",
                               directory.address().value, index, growth.table_.pointer(index).value,
                               first->number().value, depth);
  }
  growth.first_leaf_ = std::move(first);
  growth.last_leaf_ = std::move(last);
  CO_TRY_VOID(co_await growth.reserve(tree, table, directory, table_depth));
  co_return growth;
}

Task<Result<>> DirectoryGrowth::reserve(MetadataTree& tree, const DirectoryTable& table, const LockedInode& directory,
                                        std::uint32_t table_depth) {
  new_blocks_ = new_leaves();
  log_blocks_ = 1 + new_leaves() + table_.blocks();
  if (first_leaf_) log_blocks_ += 1;
  if (last_leaf_ != first_leaf_) log_blocks_ += 1;
  if (plan_.doublings > 0) {
    const std::uint32_t blocks = table.tree_blocks(table_depth + plan_.doublings);
    CO_TRY(MetadataTree::Cost cost,
           in_directory(directory, co_await tree.allocation_cost(directory, FileBlock(0), blocks)));
    new_blocks_ += cost.new_blocks;
    log_blocks_ += cost.log_blocks + blocks;
  }
  co_return {};
}

Task<Result<BlockRef>> DirectoryGrowth::carry_out(Volume& volume, DirectoryTable& table, Transaction& transaction,
                                                  Allotment& allotment, const LockedInode& directory,
                                                  std::uint32_t hash) {
  CO_TRY(std::vector<BlockNo> blocks,
         in_directory(directory, take_leaves(transaction, allotment, new_leaves(), ownership_of(directory.dinode()))));
  const WallTime now = volume.clock.wall();
  auto new_leaf = [&](std::uint32_t depth, std::uint32_t distance) {
    BlockRef block = volume.cache.create(directory.owner(), blocks.back());
    blocks.pop_back();
    auto bytes = transaction.modify(*block);
    initialize_leaf(bytes, directory.address(), depth, distance);
    set_time(ondisk::view<Leaf>(bytes), now);
    return block;
  };
  auto& dinode = directory.modify(transaction);
  dinode.blocks = dinode.blocks + blocks.size();
  dinode.goal_meta = blocks.back().value;
  dinode.goal_data = blocks.back().value;

  if (becomes_hashed_) {
    first_leaf_ = new_leaf(0, 1);
    last_leaf_ = first_leaf_;
    copy_dirents_to_leaf(transaction.modify(*first_leaf_), directory.bytes());
    make_hashed(transaction, directory, first_leaf_->number(), volume.geometry);
    CO_TRY(table_, co_await table.load(directory, 0, DirectoryTable::size(directory)));
  }
  if (plan_.doublings > 0)
    CO_TRY_VOID(
        in_directory(directory, co_await table.grow(transaction, allotment, directory, table_, plan_.doublings)));

  BlockRef leaf = first_leaf_;
  const std::uint32_t table_depth = directory.dinode().depth;
  for (std::uint32_t i = 0; i < plan_.splits; ++i) {
    const std::uint32_t depth = leaf->as<Leaf>().depth + 1u;
    const LeafSpan lower_half = leaf_span((hash >> (32 - depth) & ~1u) << (table_depth - depth), depth, table_depth);
    const std::uint32_t divider = lower_half.end() << (32 - table_depth);
    BlockRef lower = new_leaf(depth, 1);
    auto upper_bytes = transaction.modify(*leaf);
    move_lower_dirents(upper_bytes, transaction.modify(*lower), divider);
    ondisk::view<Leaf>(upper_bytes).depth = static_cast<std::uint16_t>(depth);
    table_.set(transaction, lower_half.first, lower_half.count, lower->number());
    if (hash < divider) leaf = std::move(lower);
  }
  if (plan_.chains) {
    BlockRef behind = plan_.splits > 0 ? leaf : last_leaf_;
    BlockRef added = new_leaf(leaf->as<Leaf>().depth, chain_length_ + 1);
    transaction.modify_as<Leaf>(*behind).next = added->number().value;
    leaf = std::move(added);
  }
  co_return leaf;
}

}  // namespace corral
