#include "fs/file_allocate.h"

#include <algorithm>

#include <linux/falloc.h>

#include "fs/file_patch.h"
#include "fs/file_size.h"
#include "fs/file_write.h"

namespace corral {

namespace {

/// One transaction allocates, or zeroes, at most so much.
constexpr std::uint64_t kAllocateBytes = 8u << 20;
constexpr std::uint64_t kZeroBytes = 1u << 20;

/// Bytes [begin, end).
struct ByteRange {
  std::uint64_t begin;
  std::uint64_t end;
};

/// The end of an operation: times, and the size if the range lies beyond it.
Task<Result<>> finish(FileParts& parts, const LockedInode& inode, std::uint64_t least_size) {
  CO_TRY(Transaction transaction, co_await parts.volume.journal->begin({.blocks = 1, .revokes = 0}));
  auto& dinode = inode.modify(transaction);
  dinode.size = std::max<std::uint64_t>(dinode.size, least_size);
  touch(parts.volume, dinode);
  co_return Result<>{};
}

/// Zeroes those bytes of the range that lie in blocks that exist; the others are holes and read as zeros.
Task<Result<>> zero_existing(FileParts& parts, const LockedInode& inode, ByteRange range) {
  while (range.begin < range.end) {
    const FileRange blocks = parts.blocks_of(range.begin, range.end - range.begin);
    CO_TRY(MappedRun run, co_await parts.tree.map(inode, FileBlock(blocks.first), blocks.end - blocks.first));
    std::uint64_t end = std::min(range.end, parts.bytes_of(run.first.value + run.length));
    if (!run.is_hole()) {
      const std::uint64_t most =
          inode.is_journaled_data()
              ? std::min(kZeroBytes, parts.bytes_of(std::max(1u, parts.volume.journal->max_transaction_blocks() / 4)))
              : kZeroBytes;
      end = std::min(end, range.begin - parts.offset_in_block(range.begin) + most);
      CO_TRY_VOID(co_await parts.write_out.make_room());
      FilePatch patch = FilePatch::zeros(parts, inode, range.begin, end - range.begin);
      CO_TRY_VOID(co_await patch.prepare());
      if (inode.is_journaled_data()) {
        CO_TRY(Transaction transaction,
               co_await parts.volume.journal->begin({.blocks = patch.log_blocks(), .revokes = 0}));
        CO_TRY_VOID(co_await patch.store(&transaction));
      } else {
        CO_TRY_VOID(co_await patch.store(nullptr));
        parts.write_out.data_added(parts.write_out.of(inode.inode()));
      }
    }
    range.begin = end;
  }
  co_return Result<>{};
}

Task<Result<>> zero_stuffed(FileParts& parts, const LockedInode& inode, ByteRange range) {
  range.end = std::min(range.end, inode.size_bytes());
  if (range.begin >= range.end) co_return Result<>{};
  CO_TRY(Transaction transaction, co_await parts.volume.journal->begin({.blocks = 1, .revokes = 0}));
  auto contents = transaction.modify(inode.block()).subspan(sizeof(ondisk::Dinode));
  std::ranges::fill(contents.subspan(range.begin, range.end - range.begin), std::byte{0});
  co_return Result<>{};
}

Task<Result<>> punch(FileParts& parts, const LockedInode& inode, ByteRange range) {
  if (inode.is_stuffed()) {
    CO_TRY_VOID(co_await zero_stuffed(parts, inode, range));
    co_return co_await finish(parts, inode, 0);
  }
  // Data that was never written must not be forgotten while its blocks are still the file's: a crash in between would
  // bring to light what the disk held before.
  const FileRange touched = parts.blocks_of(range.begin, range.end - range.begin);
  if (DirtyData* dirty = inode.inode().dirty.get()) CO_TRY_VOID(co_await dirty->write_back(touched));
  const FileRange whole{parts.volume.geometry.blocks_for(range.begin), parts.block_of(range.end)};
  const std::uint64_t head_end = std::min(range.end, parts.bytes_of(whole.first));
  CO_TRY_VOID(co_await zero_existing(parts, inode, {range.begin, head_end}));
  CO_TRY_VOID(co_await zero_existing(parts, inode, {std::max(head_end, parts.bytes_of(whole.end)), range.end}));
  CO_TRY_VOID(co_await free_file_blocks(parts, inode, whole));
  co_return co_await finish(parts, inode, 0);
}

/// Makes blocks exist at [blocks.first, ...) with zeros on the disk, as many as go into one transaction; gives the
/// block behind them.
Task<Result<std::uint64_t>> allocate_part(FileParts& parts, const LockedInode& inode, FileRange blocks,
                                          bool exempt_from_limits) {
  blocks.end = std::min(blocks.end, blocks.first + kAllocateBytes / parts.block_size());
  CO_TRY(MetadataTree::Cost cost,
         co_await parts.tree.allocation_cost(inode, FileBlock(blocks.first), blocks.end - blocks.first));
  if (cost.new_blocks == 0 && !inode.is_stuffed()) co_return blocks.end;
  CO_TRY(FileRoom room, co_await find_room(parts, inode, blocks, cost, exempt_from_limits));
  const std::uint32_t log_blocks = room.cost.log_blocks + room.allotment.log_blocks() + 1;
  auto pending = std::make_shared<PendingWrites>(parts.volume.executor);
  {
    CO_TRY(Transaction transaction, co_await parts.volume.journal->begin({.blocks = log_blocks, .revokes = 0}));
    const std::uint64_t set = parts.volume.journal->running_set();
    Result<> done;
    if (inode.is_stuffed()) done = co_await unstuff_file(parts, transaction, room.allotment, inode);
    if (done)
      done = co_await parts.tree.allocate(
          transaction, room.allotment, inode, FileBlock(blocks.first), room.count, [&](FileBlock first, Extent extent) {
            parts.write_out.of(inode.inode()).write_through(first, extent.start, extent.length, nullptr, set, pending);
          });
    if (parts.volume.options.data == DataMode::ordered) parts.write_out.of(inode.inode()).order(transaction);
    if (!done) parts.volume.withdraw(done.error());
    CO_TRY_VOID(done);
  }
  CO_TRY_VOID(co_await finish_pending(pending));
  co_return blocks.first + room.count;
}

Task<Result<>> preallocate(FileParts& parts, const LockedInode& inode, ByteRange range, bool exempt_from_limits) {
  FileRange blocks = parts.blocks_of(range.begin, range.end - range.begin);
  while (!blocks.empty()) {
    CO_TRY(blocks.first, co_await allocate_part(parts, inode, blocks, exempt_from_limits));
  }
  co_return Result<>{};
}

}  // namespace

Task<Result<>> allocate_file(FileParts& parts, const LockedInode& inode, int mode, std::uint64_t offset,
                             std::uint64_t length, bool exempt_from_limits) {
  constexpr int kKnown = FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE;
  const bool keep_size = (mode & FALLOC_FL_KEEP_SIZE) != 0;
  const bool punches = (mode & FALLOC_FL_PUNCH_HOLE) != 0;
  const bool zeroes = (mode & FALLOC_FL_ZERO_RANGE) != 0;
  if ((mode & ~kKnown) != 0 || (punches && (zeroes || !keep_size))) co_return fail(EOPNOTSUPP);
  CO_TRY_VOID(parts.volume.check_writable());
  if (length == 0) co_return fail(EINVAL);
  if (offset > kMaxFileBytes || length > kMaxFileBytes - offset) co_return fail(EFBIG);
  const ByteRange range{offset, offset + length};
  if (punches) co_return co_await punch(parts, inode, range);
  const std::uint64_t least_size = keep_size ? 0 : range.end;
  if (inode.is_stuffed()) {
    if (zeroes) CO_TRY_VOID(co_await zero_stuffed(parts, inode, range));
    // There is room behind the dinode: nothing to allocate.
    if (range.end <= parts.volume.geometry.stuffed_bytes()) co_return co_await finish(parts, inode, least_size);
  } else if (zeroes) {
    CO_TRY_VOID(co_await zero_existing(parts, inode, range));
  }
  CO_TRY_VOID(co_await preallocate(parts, inode, range, exempt_from_limits));
  co_return co_await finish(parts, inode, least_size);
}

}  // namespace corral
