/// MetadataTree: making blocks exist.
#include <algorithm>
#include <cstring>

#include "fs/metadata_tree.h"
#include "fs/tree_node.h"

namespace corral {

namespace {

/// A dinode's pointers as they will be once a stuffed inode is unstuffed; only null or not matters.
struct FutureRoot {
  std::uint32_t height;
  bool stuffed_contents;  ///< pointer 0 will lead to the block that takes them
};

FutureRoot future_root(const LockedInode& inode) {
  if (inode.is_stuffed()) return {1, inode.size_bytes() > 0};
  return {inode.dinode().height, false};
}

struct Missing {
  std::uint64_t data = 0;
  std::uint64_t nodes = 0;
};

/// What lacks behind a null pointer of a node at `level`.
Missing missing_below(const TreeShape& shape, std::uint32_t level, FileRange range) {
  Missing missing{range.end - range.first, 0};
  for (std::uint32_t below = level + 1; below < shape.height(); ++below)
    missing.nodes += shape.nodes(below, range);
  return missing;
}

/// What lacks for the range in the tree as it is; its nodes are in memory.
Result<Missing> count_missing(const TreeNodes& nodes, const TreeNode& node, FileRange range) {
  Missing missing;
  range = intersection(range, node.range());
  if (range.empty()) return missing;
  for (std::uint32_t index = node.index_of(range.first); index <= node.index_of(range.end - 1); ++index) {
    Missing part;
    if (node.pointers()[index] == 0) {
      part = missing_below(nodes.shape(), node.level, intersection(range, node.range_of(index)));
    } else if (!nodes.is_lowest(node)) {
      TRY(TreeNode child, nodes.cached_child(node, index));
      TRY(part, count_missing(nodes, child, range));
    }
    missing.data += part.data;
    missing.nodes += part.nodes;
  }
  return missing;
}

/// What lacks for a range beyond the reach of a tree of height `old_height` that holds something, once it has grown
/// to `shape`: growing puts a chain of nodes on top of the old pointers, which are the first of their levels.
Missing missing_beyond(const TreeShape& shape, std::uint32_t old_height, FileRange range) {
  if (range.empty()) return {};
  Missing missing = missing_below(shape, 0, range);
  for (std::uint32_t level = 1; level <= shape.height() - old_height; ++level)
    if (range.first < shape.span(level - 1)) --missing.nodes;
  return missing;
}

std::uint32_t narrow(std::uint64_t blocks) {
  CHECK_INVARIANT(blocks <= 0xFFFFFFFFu);
  return static_cast<std::uint32_t>(blocks);
}

void set_pointer(Transaction& transaction, const TreeNode& node, std::uint32_t index, BlockNo block) {
  ondisk::pointers(transaction.modify(*node.block), node.header_bytes())[index] = block.value;
}

/// One allocate() at work. No step waits: what it reads is in memory.
class Growth {
 public:
  Growth(Volume& volume, Transaction& transaction, Allotment& allotment, const LockedInode& inode)
      : volume_(volume), transaction_(transaction), allotment_(allotment), inode_(inode) {}

  std::uint64_t taken() const { return taken_; }
  BlockNo last() const { return last_; }

  Result<Extent> take(std::uint64_t wanted) {
    TRY(Extent extent, allotment_.take_blocks(transaction_, narrow(wanted), ownership_of(inode_.dinode())));
    taken_ += extent.length;
    last_ = extent.start + (extent.length - 1);
    return extent;
  }

  Result<BlockRef> new_node() {
    TRY(Extent extent, take(1));
    BlockRef block = volume_.cache.create(inode_.owner(), extent.start);
    transaction_.modify_as<ondisk::MetaHeader>(*block).set(ondisk::MetaType::indirect);
    return block;
  }

  /// Moves the dinode's pointers down until the tree is of that height.
  Result<> raise(std::uint32_t height) {
    while (inode_.dinode().height < height) {
      TreeNode root = TreeNodes(volume_, inode_).root();
      if (root.all_null()) {
        inode_.modify(transaction_).height = static_cast<std::uint16_t>(height);
        break;
      }
      TRY(BlockRef below, new_node());
      auto pointers = root.pointers();
      auto moved = ondisk::pointers(transaction_.modify(*below), sizeof(ondisk::MetaHeader));
      std::copy(pointers.begin(), pointers.end(), moved.begin());
      auto cleared = ondisk::pointers(transaction_.modify(inode_.block()), sizeof(ondisk::Dinode));
      std::fill(cleared.begin(), cleared.end(), 0);
      cleared[0] = below->number().value;
      auto& dinode = inode_.modify(transaction_);
      dinode.height = static_cast<std::uint16_t>(dinode.height + 1);
    }
    return {};
  }

  Result<> fill(const TreeNodes& nodes, const TreeNode& node, FileRange range, const MetadataTree::NewRun& is_new) {
    range = intersection(range, node.range());
    if (range.empty()) return {};
    if (nodes.is_lowest(node)) return fill_data(node, range, is_new);
    for (std::uint32_t index = node.index_of(range.first); index <= node.index_of(range.end - 1); ++index) {
      BlockRef created;
      if (node.pointers()[index] == 0) {
        TRY(created, new_node());
        set_pointer(transaction_, node, index, created->number());
      }
      TRY(TreeNode child, nodes.cached_child(node, index));
      TRY_VOID(fill(nodes, child, range, is_new));
    }
    return {};
  }

 private:
  Result<> fill_data(const TreeNode& node, FileRange range, const MetadataTree::NewRun& is_new) {
    for (std::uint64_t block = range.first; block < range.end;) {
      std::uint32_t index = node.index_of(block);
      auto pointers = node.pointers();
      std::uint64_t holes = 0;
      while (block + holes < range.end && pointers[index + holes] == 0)
        ++holes;
      if (holes == 0) {
        ++block;
        continue;
      }
      TRY(Extent extent, take(holes));
      auto changed = ondisk::pointers(transaction_.modify(*node.block), node.header_bytes());
      for (std::uint32_t i = 0; i < extent.length; ++i)
        changed[index + i] = extent.start.value + i;
      is_new(FileBlock(block), extent);
      block += extent.length;
    }
    return {};
  }

  Volume& volume_;
  Transaction& transaction_;
  Allotment& allotment_;
  const LockedInode& inode_;
  std::uint64_t taken_ = 0;
  BlockNo last_;
};

void account(Transaction& transaction, const LockedInode& inode, std::uint64_t taken, BlockNo last) {
  if (taken == 0) return;
  auto& dinode = inode.modify(transaction);
  dinode.blocks = dinode.blocks + taken;
  dinode.goal_meta = last.value;
  dinode.goal_data = last.value;
}

}  // namespace

BlockNo MetadataTree::goal(const LockedInode& inode) {
  BlockNo goal(inode.dinode().goal_data);
  return goal.value != 0 ? goal : inode.address();
}

Task<Result<MetadataTree::Cost>> MetadataTree::allocation_cost(const LockedInode& inode, FileBlock first,
                                                               std::uint64_t count) {
  CHECK_INVARIANT(count > 0);
  const FileRange range{first.value, first.value + count};
  const FutureRoot root = future_root(inode);
  const TreeShape shape(volume_.geometry, std::max(root.height, volume_.geometry.height_for_blocks(range.end)));
  Missing missing;
  bool empty = !root.stuffed_contents;
  std::uint64_t added = 0;
  if (inode.is_stuffed()) {
    added = root.stuffed_contents ? 1 : 0;
    FileRange inside = intersection(range, {added, volume_.geometry.dinode_pointers()});
    if (!inside.empty()) missing.data = inside.end - inside.first;
  } else {
    TreeNodes nodes(volume_, inode);
    CO_TRY(auto held, co_await nodes.read_all(range));
    CO_TRY(missing, count_missing(nodes, nodes.root(), range));
    empty = nodes.root().all_null();
  }
  if (shape.height() > root.height) {
    if (empty) {
      missing = missing_below(shape, 0, range);
    } else {
      FileRange beyond{std::max(range.first, volume_.geometry.height_capacity_blocks(root.height)), range.end};
      Missing more = missing_beyond(shape, root.height, beyond);
      missing.data += more.data;
      missing.nodes += more.nodes + (shape.height() - root.height);
    }
  }
  Cost cost;
  cost.new_blocks = narrow(missing.data + missing.nodes + added);
  if (cost.new_blocks == 0 && !inode.is_stuffed()) co_return cost;
  std::uint64_t logged = 1 + added + (shape.height() - root.height);
  for (std::uint32_t level = 1; level < shape.height(); ++level)
    logged += shape.nodes(level, range);
  cost.log_blocks = narrow(logged);
  co_return cost;
}

Task<Result<>> MetadataTree::allocate(Transaction& transaction, Allotment& allotment, const LockedInode& inode,
                                      FileBlock first, std::uint64_t count, const NewRun& is_new) {
  CHECK_INVARIANT(!inode.is_stuffed() && count > 0);
  const FileRange range{first.value, first.value + count};
  // From here to the end of the function nothing is awaited again: the transaction never stays half done.
  CO_TRY(auto held, co_await TreeNodes(volume_, inode).read_all(range));
  Growth growth(volume_, transaction, allotment, inode);
  Result<> grown = growth.raise(volume_.geometry.height_for_blocks(range.end));
  if (grown) {
    TreeNodes nodes(volume_, inode);
    grown = growth.fill(nodes, nodes.root(), range, is_new);
  }
  if (!grown) {
    volume_.withdraw(grown.error());
    co_return grown;
  }
  account(transaction, inode, growth.taken(), growth.last());
  co_return grown;
}

Task<Result<>> MetadataTree::unstuff(Transaction& transaction, Allotment& allotment, const LockedInode& inode,
                                     const StuffedData& data) {
  CHECK_INVARIANT(inode.is_stuffed());
  auto contents = inode.bytes().subspan(sizeof(ondisk::Dinode));
  if (inode.size_bytes() > contents.size())
    co_return fail_corrupt("inode {}: size {} bytes with height 0, expected at most {}", inode.address().value,
                           inode.size_bytes(), contents.size());
  BlockNo block;
  if (inode.size_bytes() > 0) {
    Growth growth(volume_, transaction, allotment, inode);
    auto extent = growth.take(1);
    if (!extent) {
      volume_.withdraw(extent.error());
      co_return std::unexpected(extent.error());
    }
    block = extent->start;
    if (inode.is_directory()) {
      BlockRef table = volume_.cache.create(inode.owner(), block);
      auto bytes = transaction.modify(*table);
      ondisk::view<ondisk::MetaHeader>(bytes).set(ondisk::MetaType::journaled_data);
      std::ranges::copy(contents, bytes.begin() + sizeof(ondisk::MetaHeader));
    } else if (inode.is_journaled_data()) {
      BlockRef copy = volume_.cache.create(inode.owner(), block);
      std::ranges::copy(contents.first(inode.size_bytes()), transaction.modify_data(*copy).begin());
    } else {
      data(block, contents.first(inode.size_bytes()));
    }
    account(transaction, inode, 1, block);
  }
  auto bytes = transaction.modify(inode.block()).subspan(sizeof(ondisk::Dinode));
  std::memset(bytes.data(), 0, bytes.size());
  ondisk::pointers(transaction.modify(inode.block()), sizeof(ondisk::Dinode))[0] = block.value;
  inode.modify(transaction).height = 1;
  co_return Result<>{};
}

}  // namespace corral
