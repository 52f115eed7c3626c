// Giving back what a removed directory held.
#include <algorithm>
#include <vector>

#include <sys/stat.h>

#include "base/check.h"
#include "fs/chain_guard.h"
#include "fs/directory.h"
#include "fs/dirent_block.h"

namespace corral {

using ondisk::Leaf;

namespace {

/// Leaves freed in one transaction: bounds its revokes and the resource groups that it holds.
constexpr std::size_t kLeavesPerStep = 64;

}  // namespace

/// One transaction's part: leaves, and what the table says afterwards.
struct Directories::FreeStep {
  struct Change {
    LeafSpan span;
    BlockNo leaf;  ///< 0, or the rest of the chain
  };
  std::vector<BlockNo> leaves;
  std::vector<Change> changes;
  std::uint32_t next_index = 0;  ///< where the next step begins
};

Task<Result<Directories::FreeStep>> Directories::next_free_step(const LockedInode& directory, std::uint32_t index) {
  FreeStep step;
  TablePiece piece;
  const std::uint32_t end = DirectoryTable::size(directory);
  while (index < end && step.leaves.size() < kLeavesPerStep) {
    if (!piece.covers(index)) {
      CO_TRY(piece, co_await table_.piece_at(directory, index));
    }
    // Freed before a crash.
    if (!piece.pointer(index)) {
      ++index;
      continue;
    }
    CO_TRY(BlockNo address, table_.leaf_at(directory, piece, index));
    if (!volume_.cache.find(directory.owner(), address)) table_.read_ahead(directory, piece, index, kLeavesPerStep);
    FreeStep::Change change;
    ChainGuard guard;
    while (address && step.leaves.size() < kLeavesPerStep) {
      CO_TRY(BlockRef block, co_await table_.read_leaf(directory, address));
      if (!guard.visit(address)) co_return table_.circular_chain(directory, address);
      const auto& leaf = block->as<Leaf>();
      if (change.span.count == 0) change.span = leaf_span(index, leaf.depth, directory.dinode().depth);
      step.leaves.push_back(address);
      address = BlockNo(leaf.next);
    }
    change.leaf = address;
    index = address ? change.span.first : change.span.end();
    step.changes.push_back(change);
  }
  step.next_index = index;
  co_return step;
}

Task<Result<>> Directories::free_contents(const LockedInode& directory) {
  if (!directory.is_hashed_directory()) co_return {};
  const Ownership owner = ownership_of(directory.dinode());
  const std::uint32_t end = DirectoryTable::size(directory);
  for (std::uint32_t index = 0; index < end;) {
    CO_TRY(FreeStep step, co_await next_free_step(directory, index));
    CO_TRY(Release release, in_directory(directory, co_await allocator_.prepare_release(step.leaves)));
    TableRange range;
    if (!step.changes.empty()) {
      const std::uint32_t first = step.changes.front().span.first;
      CO_TRY(range, co_await table_.load(directory, first, step.changes.back().span.end() - first));
    }
    const auto leaves = static_cast<std::uint32_t>(step.leaves.size());
    CO_TRY(Transaction transaction,
           co_await volume_.journal->begin({.blocks = 1 + range.blocks() + release.log_blocks(), .revokes = leaves}));
    for (BlockNo leaf : step.leaves) {
      CO_TRY_VOID(in_directory(directory, release.free_blocks(transaction, Extent{leaf, 1}, owner)));
      transaction.free_block(leaf);
    }
    for (const FreeStep::Change& change : step.changes)
      range.set(transaction, change.span.first, change.span.count, change.leaf);
    auto& dinode = directory.modify(transaction);
    dinode.blocks = dinode.blocks - leaves;
    if (step.next_index == end) dinode.mode = S_IFREG;
    index = step.next_index;
  }
  if (!directory.is_stuffed())
    co_return in_directory(directory, co_await tree_.free_range(directory, FileBlock(0), MetadataTree::kToEnd));
  co_return {};
}

}  // namespace corral
