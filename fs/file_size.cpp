#include "fs/file_size.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "fs/file_patch.h"
#include "fs/file_write.h"

namespace corral {

namespace {

Task<Result<>> resize_stuffed(FileParts& parts, const LockedInode& inode, std::uint64_t size) {
  CO_TRY(Transaction transaction, co_await parts.volume.journal->begin({.blocks = 1, .revokes = 0}));
  auto contents = transaction.modify(inode.block()).subspan(sizeof(ondisk::Dinode));
  std::ranges::fill(contents.subspan(std::min({size, inode.size_bytes(), std::uint64_t{contents.size()}})),
                    std::byte{0});
  auto& dinode = inode.modify(transaction);
  dinode.size = size;
  touch(parts.volume, dinode);
  co_return Result<>{};
}

Task<Result<>> grow(FileParts& parts, const LockedInode& inode, std::uint64_t size) {
  if (size > inode.size_bytes()) CO_TRY_VOID(co_await clear_behind_end(parts, inode));
  CO_TRY(Transaction transaction, co_await parts.volume.journal->begin({.blocks = 1, .revokes = 0}));
  auto& dinode = inode.modify(transaction);
  dinode.size = size;
  touch(parts.volume, dinode);
  co_return Result<>{};
}

/// Readers rely on it that a file larger than the room behind its dinode is not stuffed.
Task<Result<>> grow_unstuffing(FileParts& parts, const LockedInode& inode, std::uint64_t size) {
  Allotment allotment;
  TransactionSize log{.blocks = 1, .revokes = 0};
  if (inode.size_bytes() > 0) {
    AllotmentRequest request;
    request.goal = MetadataTree::goal(inode);
    request.blocks = 1;
    request.owner = ownership_of(inode.dinode());
    request.window = &inode.inode().window;
    CO_TRY(allotment, co_await parts.allocator.allot(request));
    log.blocks += 1 + allotment.log_blocks();
  }
  CO_TRY(Transaction transaction, co_await parts.volume.journal->begin(log));
  CO_TRY_VOID(co_await unstuff_file(parts, transaction, allotment, inode));
  auto& dinode = inode.modify(transaction);
  dinode.size = size;
  touch(parts.volume, dinode);
  co_return Result<>{};
}

/// Zeros from there to the end of the block it lies in, ready to be stored ahead of the commit of a new size; none
/// where a block begins there, or a hole is.
Task<Result<>> clear_block_from(FileParts& parts, const LockedInode& inode, std::uint64_t offset,
                                std::optional<FilePatch>& patch) {
  const std::uint64_t kept = parts.offset_in_block(offset);
  if (kept == 0) co_return Result<>{};
  CO_TRY(MappedRun run, co_await parts.tree.map(inode, FileBlock(parts.block_of(offset)), 1));
  if (run.is_hole()) co_return Result<>{};
  patch.emplace(FilePatch::zeros(parts, inode, offset, parts.block_size() - kept));
  CO_TRY_VOID(co_await patch->prepare());
  patch->precede_commit();
  co_return Result<>{};
}

Task<Result<>> shrink(FileParts& parts, const LockedInode& inode, std::uint64_t size) {
  // The rest of the last block must read as zeros if the file grows again.
  std::optional<FilePatch> tail;
  CO_TRY_VOID(co_await clear_block_from(parts, inode, size, tail));
  {
    const std::uint32_t log_blocks = 1 + (tail ? tail->log_blocks() : 0);
    CO_TRY(Transaction transaction, co_await parts.volume.journal->begin({.blocks = log_blocks, .revokes = 0}));
    if (tail) CO_TRY_VOID(co_await tail->store(&transaction));
    auto& dinode = inode.modify(transaction);
    dinode.size = size;
    dinode.flags = dinode.flags | ondisk::kDinodeTruncateInProgress;
    touch(parts.volume, dinode);
  }
  inode.inode().window.reset();
  co_return co_await finish_truncate(parts, inode);
}

}  // namespace

Task<Result<>> clear_behind_end(FileParts& parts, const LockedInode& inode) {
  if (inode.is_stuffed()) co_return Result<>{};
  std::optional<FilePatch> tail;
  CO_TRY_VOID(co_await clear_block_from(parts, inode, inode.size_bytes(), tail));
  if (!tail) co_return Result<>{};
  CO_TRY_VOID(co_await parts.write_out.make_room());
  CO_TRY(Transaction transaction,
         co_await parts.volume.journal->begin({.blocks = std::max(1u, tail->log_blocks()), .revokes = 0}));
  CO_TRY_VOID(co_await tail->store(&transaction));
  if (DirtyData* dirty = inode.inode().dirty.get()) parts.write_out.data_added(*dirty);
  co_return Result<>{};
}

Task<Result<>> set_file_size(FileParts& parts, const LockedInode& inode, std::uint64_t size) {
  CO_TRY_VOID(parts.volume.check_writable());
  if (size > kMaxFileBytes) co_return fail(EFBIG);
  if (!inode.is_stuffed()) {
    if (size < inode.size_bytes()) co_return co_await shrink(parts, inode, size);
    co_return co_await grow(parts, inode, size);
  }
  if (size <= parts.volume.geometry.stuffed_bytes()) co_return co_await resize_stuffed(parts, inode, size);
  co_return co_await grow_unstuffing(parts, inode, size);
}

Task<Result<>> free_file_blocks(FileParts& parts, const LockedInode& inode, FileRange blocks) {
  if (blocks.empty()) co_return Result<>{};
  if (DirtyData* dirty = inode.inode().dirty.get()) co_await dirty->drop(blocks);
  co_return co_await parts.tree.free_range(inode, FileBlock(blocks.first), blocks.end - blocks.first);
}

Task<Result<>> finish_truncate(FileParts& parts, const LockedInode& inode) {
  const std::uint64_t first = parts.volume.geometry.blocks_for(inode.size_bytes());
  CO_TRY_VOID(co_await free_file_blocks(parts, inode, {first, MetadataTree::kToEnd}));
  CO_TRY(Transaction transaction, co_await parts.volume.journal->begin({.blocks = 1, .revokes = 0}));
  auto& dinode = inode.modify(transaction);
  dinode.flags = dinode.flags & ~ondisk::kDinodeTruncateInProgress;
  touch(parts.volume, dinode);
  if (dinode.size != 0) co_return Result<>{};
  // An empty file is stuffed again.
  dinode.height = 0;
  dinode.goal_meta = inode.address().value;
  dinode.goal_data = inode.address().value;
  std::ranges::fill(transaction.modify(inode.block()).subspan(sizeof(ondisk::Dinode)), std::byte{0});
  co_return Result<>{};
}

}  // namespace corral
