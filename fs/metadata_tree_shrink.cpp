/// MetadataTree: freeing blocks.
///
/// Nodes on the way to the range are gathered in batches. Each transaction of a batch frees the data blocks that lie in
/// a few bitmap blocks, and the nodes that become empty thereby, and takes the pointers to them out of the nodes that
/// stay. So each block is at any time either reachable and used, or free.
#include <algorithm>
#include <array>
#include <optional>

#include "fs/metadata_tree.h"
#include "fs/tree_node.h"

namespace corral {

namespace {

constexpr std::size_t kBatchNodes = 256;
constexpr std::uint64_t kBatchBlocks = 16384;
/// The same where each block takes room for a revoke in the log.
constexpr std::uint64_t kBatchRevokedBlocks = 2048;
/// Bitmap blocks (and so resource groups) changed at the same time.
constexpr std::size_t kBatchBitmaps = 8;

bool is_set(ondisk::be64 pointer) {
  return pointer != 0;
}

struct FreeNode {
  TreeNode node;
  std::size_t parent = 0;             ///< place in the batch
  std::uint32_t index_in_parent = 0;  ///< of the pointer to this node
  bool complete = false;              ///< everything below it that is in the range is in the batch
  bool freed = false;
  std::vector<std::uint32_t> cleared = {};  ///< pointers that the transaction being put together takes out
};

/// Nodes in the order of a walk from the root: parents before their children.
struct Batch {
  FileRange range;  ///< what is to be freed
  std::vector<FreeNode> nodes;
  std::uint64_t data_blocks = 0;
  std::uint64_t next = 0;  ///< file block at which the next batch begins
};

/// Collects blocks into contiguous extents.
class Extents {
 public:
  void add(BlockNo block) {
    ++blocks_;
    if (!extents_.empty() && extents_.back().start + extents_.back().length == block)
      ++extents_.back().length;
    else
      extents_.push_back({block, 1});
  }
  const std::vector<Extent>& all() const { return extents_; }
  std::uint64_t blocks() const { return blocks_; }

 private:
  std::vector<Extent> extents_;
  std::uint64_t blocks_ = 0;
};

/// One free_range() at work.
class Shrinking {
 public:
  Shrinking(Volume& volume, Allocator& allocator, const LockedInode& inode)
      : volume_(volume), allocator_(allocator), inode_(inode), nodes_(volume, inode) {}

  Task<Result<>> run(FileRange range) {
    batch_.range = intersection(range, nodes_.shape().reach());
    batch_.next = batch_.range.first;
    while (batch_.next < batch_.range.end) {
      batch_.nodes.clear();
      batch_.data_blocks = 0;
      batch_.nodes.push_back({nodes_.root()});
      CO_TRY(bool complete, co_await gather(0));
      if (complete) batch_.next = batch_.range.end;
      for (bool more = true; more;) {
        CO_TRY(more, co_await step());
      }
    }
    co_return Result<>{};
  }

 private:
  bool logs_data() const { return inode_.is_directory() || inode_.is_journaled_data(); }
  bool full() const {
    return batch_.nodes.size() >= std::min<std::size_t>(kBatchNodes, volume_.journal->max_transaction_blocks() / 4) ||
           batch_.data_blocks >= (logs_data() ? kBatchRevokedBlocks : kBatchBlocks);
  }
  FileRange part_of(const TreeNode& node, std::uint64_t from) const {
    return intersection({from, batch_.range.end}, node.range());
  }

  /// Puts what lies below a node, from file block batch_.next on, into the batch; false if that became full before the
  /// node's end.
  Task<Result<bool>> gather(std::size_t place) {
    const TreeNode node = batch_.nodes[place].node;
    const FileRange part = part_of(node, batch_.next);
    if (nodes_.is_lowest(node)) {
      auto pointers = node.pointers_to(part);
      batch_.data_blocks += static_cast<std::uint64_t>(std::ranges::count_if(pointers, is_set));
    } else if (!part.empty()) {
      const std::uint32_t last = node.index_of(part.end - 1);
      for (std::uint32_t index = node.index_of(part.first); index <= last; ++index) {
        if (node.pointers()[index] == 0) continue;
        batch_.next = std::max(batch_.next, node.range_of(index).first);
        if (full()) co_return false;
        CO_TRY(TreeNode child, co_await nodes_.child(node, index, last));
        batch_.nodes.push_back({std::move(child), place, index});
        CO_TRY(bool complete, co_await gather(batch_.nodes.size() - 1));
        if (!complete) co_return false;
      }
    }
    batch_.nodes[place].complete = true;
    co_return true;
  }

  /// True if nothing will hold the node once the range is freed.
  bool to_be_freed(const FreeNode& entry) const {
    if (entry.freed || entry.node.level == 0 || !entry.complete) return false;
    FileRange range = entry.node.range();
    return (batch_.range.first <= range.first && range.end <= batch_.range.end) || entry.node.all_null();
  }

  /// The first block that the batch can still free and that `release` does not cover.
  std::optional<BlockNo> first_outside(const Release* release) const {
    auto outside = [release](BlockNo block) { return release == nullptr || !release->covers(block); };
    for (std::size_t place = batch_.nodes.size(); place-- > 0;) {
      const FreeNode& entry = batch_.nodes[place];
      if (!entry.freed && nodes_.is_lowest(entry.node)) {
        for (ondisk::be64 pointer : entry.node.pointers_to(part_of(entry.node, batch_.range.first)))
          if (is_set(pointer) && outside(BlockNo(pointer))) return BlockNo(pointer);
      }
      if (to_be_freed(entry) && outside(entry.node.block->number())) return entry.node.block->number();
    }
    return std::nullopt;
  }

  std::uint32_t log_blocks(const Release& release) const {
    return static_cast<std::uint32_t>(batch_.nodes.size()) + 1 + release.log_blocks();
  }

  Task<Result<Release>> lock_bitmaps(std::vector<BlockNo> blocks) {
    auto release = co_await allocator_.prepare_release(std::move(blocks));
    if (!release) co_return std::unexpected(release.error().within(fmt::format("inode {}", inode_.address().value)));
    co_return release;
  }

  /// Locks the bitmaps of the batch's first blocks, as many as one transaction may change.
  Task<Result<Release>> hold_bitmaps(BlockNo first) {
    std::vector<BlockNo> wanted = {first};
    for (;;) {
      CO_TRY(Release release, co_await lock_bitmaps(wanted));
      if (wanted.size() > 1 && log_blocks(release) > volume_.journal->max_transaction_blocks() / 2) {
        wanted.pop_back();
        release = Release();
        co_return co_await lock_bitmaps(wanted);
      }
      auto next = first_outside(&release);
      if (!next || wanted.size() == kBatchBitmaps) co_return release;
      wanted.push_back(*next);
    }
  }

  /// Frees one part of the batch; false if there is nothing left of it.
  Task<Result<bool>> step() {
    auto first = first_outside(nullptr);
    if (!first) co_return false;
    CO_TRY(Release release, co_await hold_bitmaps(*first));
    TransactionSize size;
    size.blocks = log_blocks(release);
    size.revokes = static_cast<std::uint32_t>(batch_.nodes.size() + (logs_data() ? batch_.data_blocks : 0));
    CO_TRY(Transaction transaction, co_await volume_.journal->begin(size));
    auto freed = free_covered(transaction, release);
    if (freed) co_return true;
    volume_.withdraw(freed.error());
    co_return std::unexpected(freed.error());
  }

  Result<> free_covered(Transaction& transaction, Release& release) {
    Extents data;
    Extents metadata;
    for (std::size_t place = batch_.nodes.size(); place-- > 0;) {
      FreeNode& entry = batch_.nodes[place];
      if (entry.freed) continue;
      if (nodes_.is_lowest(entry.node)) collect_data(entry, release, data);
      if (becomes_empty(entry) && release.covers(entry.node.block->number())) {
        metadata.add(entry.node.block->number());
        batch_.nodes[entry.parent].cleared.push_back(entry.index_in_parent);
        entry.freed = true;
        entry.node.block.reset();
      } else if (!entry.cleared.empty()) {
        auto pointers = ondisk::pointers(transaction.modify(*entry.node.block), entry.node.header_bytes());
        for (std::uint32_t index : entry.cleared)
          pointers[index] = 0;
      }
      entry.cleared.clear();
    }
    TRY_VOID(give_back(transaction, release, data, logs_data()));
    TRY_VOID(give_back(transaction, release, metadata, true));
    return account(transaction, data.blocks() + metadata.blocks());
  }

  void collect_data(FreeNode& entry, const Release& release, Extents& data) const {
    const FileRange part = part_of(entry.node, batch_.range.first);
    auto pointers = entry.node.pointers_to(part);
    for (std::size_t i = 0; i < pointers.size(); ++i) {
      if (!is_set(pointers[i]) || !release.covers(BlockNo(pointers[i]))) continue;
      data.add(BlockNo(pointers[i]));
      entry.cleared.push_back(entry.node.index_of(part.first) + static_cast<std::uint32_t>(i));
    }
  }

  static bool becomes_empty(const FreeNode& entry) {
    if (entry.node.level == 0) return false;
    auto held = std::ranges::count_if(entry.node.pointers(), is_set);
    return static_cast<std::size_t>(held) == entry.cleared.size();
  }

  Result<> give_back(Transaction& transaction, Release& release, const Extents& extents, bool logged) const {
    const Ownership owner = ownership_of(inode_.dinode());
    for (const Extent& extent : extents.all()) {
      if (auto freed = release.free_blocks(transaction, extent, owner); !freed)
        return std::unexpected(freed.error().within(fmt::format("inode {}", inode_.address().value)));
      for (std::uint32_t i = 0; logged && i < extent.length; ++i)
        transaction.free_block(extent.start + i);
    }
    return {};
  }

  Result<> account(Transaction& transaction, std::uint64_t freed) const {
    std::uint64_t held = inode_.dinode().blocks;
    if (freed >= held)
      return fail_corrupt("inode {}: di_blocks is {}, but {} blocks were found besides the dinode",
                          inode_.address().value, held, freed);
    inode_.modify(transaction).blocks = held - freed;
    return {};
  }

  Volume& volume_;
  Allocator& allocator_;
  const LockedInode& inode_;
  TreeNodes nodes_;
  Batch batch_;
};

}  // namespace

Task<Result<>> MetadataTree::free_range(const LockedInode& inode, FileBlock first, std::uint64_t count) {
  if (inode.is_stuffed() || count == 0) co_return Result<>{};
  const std::uint64_t end = count > kToEnd - first.value ? kToEnd : first.value + count;
  Shrinking shrinking(volume_, allocator_, inode);
  co_return co_await shrinking.run({first.value, end});
}

}  // namespace corral
