#include "fs/file_write.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "fs/file_patch.h"
#include "fs/file_size.h"

namespace corral {

namespace {

/// One transaction writes at most so much, so that none is long open.
constexpr std::uint64_t kPieceBytes = 1u << 20;

/// One write() at work.
class FileWrite {
 public:
  FileWrite(FileParts& parts, const LockedInode& inode, FileData::WriteOptions options)
      : parts_(parts), inode_(inode), options_(options) {}

  Task<Result<std::size_t>> run(std::uint64_t offset, std::span<const std::byte> data) {
    std::size_t written = 0;
    while (written < data.size()) {
      auto piece = co_await write_piece(offset + written, data.subspan(written));
      if (!piece && written == 0) co_return std::unexpected(piece.error());
      if (!piece) break;
      written += *piece;
    }
    co_return written;
  }

 private:
  std::uint64_t piece_bytes(std::uint64_t offset, std::size_t wanted) const {
    std::uint64_t most = kPieceBytes;
    if (inode_.is_journaled_data())
      most = std::min(most, parts_.bytes_of(std::max(1u, parts_.volume.journal->max_transaction_blocks() / 4)));
    return std::min<std::uint64_t>(wanted, most - parts_.offset_in_block(offset));
  }

  /// May go straight from the caller's memory to the disk.
  bool is_direct(std::uint64_t offset, std::span<const std::byte> data) const {
    return options_.direct && !inode_.is_stuffed() && !inode_.is_journaled_data() &&
           parts_.offset_in_block(offset | data.size()) == 0 &&
           reinterpret_cast<std::uintptr_t>(data.data()) % parts_.volume.device.geometry().sector_bytes == 0;
  }

  Task<Result<std::size_t>> write_piece(std::uint64_t offset, std::span<const std::byte> data) {
    CO_TRY_VOID(co_await parts_.write_out.make_room());
    const std::uint64_t stuffed_bytes = parts_.volume.geometry.stuffed_bytes();
    if (inode_.is_stuffed() && data.size() <= stuffed_bytes && offset <= stuffed_bytes - data.size())
      co_return co_await write_stuffed(offset, data);
    // A patch of the last block itself clears what it does not cover.
    if (parts_.block_of(offset) > parts_.block_of(inode_.size_bytes()))
      CO_TRY_VOID(co_await clear_behind_end(parts_, inode_));
    data = data.first(piece_bytes(offset, data.size()));
    const FileRange blocks = parts_.blocks_of(offset, data.size());
    CO_TRY(MetadataTree::Cost cost,
           co_await parts_.tree.allocation_cost(inode_, FileBlock(blocks.first), blocks.end - blocks.first));
    if (is_direct(offset, data)) co_return co_await write_direct(offset, data, cost);
    FilePatch patch(parts_, inode_, offset, data);
    CO_TRY_VOID(co_await patch.prepare());
    if (inode_.is_stuffed() || cost.new_blocks > 0) {
      CO_TRY_VOID(co_await put_new(patch, cost));
    } else {
      CO_TRY_VOID(co_await put_over(patch));
    }
    if (DirtyData* dirty = inode_.inode().dirty.get()) parts_.write_out.data_added(*dirty);
    co_return patch.length();
  }

  Task<Result<std::size_t>> write_stuffed(std::uint64_t offset, std::span<const std::byte> data) {
    CO_TRY(Transaction transaction, co_await parts_.volume.journal->begin({.blocks = 1, .revokes = 0}));
    auto contents = transaction.modify(inode_.block()).subspan(sizeof(ondisk::Dinode));
    const std::uint64_t size = std::min<std::uint64_t>(inode_.size_bytes(), contents.size());
    if (offset > size) std::memset(contents.data() + size, 0, offset - size);
    std::memcpy(contents.data() + offset, data.data(), data.size());
    end_write(transaction, offset + data.size());
    co_return data.size();
  }

  bool changes_dinode(std::uint64_t end) const { return !options_.keep_times || end > inode_.size_bytes(); }

  void end_write(Transaction& transaction, std::uint64_t end) {
    if (!changes_dinode(end)) return;
    auto& dinode = inode_.modify(transaction);
    if (end > dinode.size) dinode.size = end;
    if (!options_.keep_times) touch(parts_.volume, dinode);
  }

  /// All blocks exist. A new size must not show what they held before.
  Task<Result<>> put_over(FilePatch& patch) {
    const std::uint64_t end = patch.offset() + patch.length();
    if (end > inode_.size_bytes()) patch.precede_commit();
    if (!inode_.is_journaled_data() && !changes_dinode(end)) co_return co_await patch.store(nullptr);
    CO_TRY(Transaction transaction,
           co_await parts_.volume.journal->begin({.blocks = 1 + patch.log_blocks(), .revokes = 0}));
    CO_TRY_VOID(co_await patch.store(&transaction));
    end_write(transaction, end);
    co_return Result<>{};
  }

  /// Some blocks are to be allocated; if there is no room for all, the patch becomes shorter.
  Task<Result<>> put_new(FilePatch& patch, MetadataTree::Cost cost) {
    const FileRange blocks = patch.blocks();
    CO_TRY(FileRoom room, co_await find_room(parts_, inode_, blocks, cost, options_.exempt_from_limits));
    if (room.count < blocks.end - blocks.first)
      patch.shorten(parts_.bytes_of(blocks.first + room.count) - patch.offset());
    const std::uint32_t log_blocks = room.cost.log_blocks + room.allotment.log_blocks() + patch.log_blocks() + 1;
    CO_TRY(Transaction transaction, co_await parts_.volume.journal->begin({.blocks = log_blocks, .revokes = 0}));
    auto put = co_await allocate_and_store(transaction, room, patch);
    // Blocks that nobody will fill must not become visible.
    if (!put) parts_.volume.withdraw(put.error());
    co_return put;
  }

  Task<Result<>> allocate_and_store(Transaction& transaction, FileRoom& room, FilePatch& patch) {
    if (inode_.is_stuffed()) CO_TRY_VOID(co_await unstuff_file(parts_, transaction, room.allotment, inode_));
    CO_TRY_VOID(co_await parts_.tree.allocate(transaction, room.allotment, inode_, FileBlock(patch.blocks().first),
                                              room.count, [&](FileBlock, Extent extent) { patch.allocated(extent); }));
    CO_TRY_VOID(co_await patch.store(&transaction));
    end_write(transaction, patch.offset() + patch.length());
    co_return Result<>{};
  }

  Task<Result<std::size_t>> write_direct(std::uint64_t offset, std::span<const std::byte> data,
                                         MetadataTree::Cost cost) {
    const FileRange blocks = parts_.blocks_of(offset, data.size());
    if (DirtyData* dirty = inode_.inode().dirty.get()) CO_TRY_VOID(co_await dirty->write_back(blocks));
    auto pending = std::make_shared<PendingWrites>(parts_.volume.executor);
    auto started = cost.new_blocks > 0 ? co_await start_direct_new(offset, data, cost, pending)
                                       : co_await start_direct_over(offset, data, pending);
    // Whatever became of the rest: the caller's memory must not be given back while the device reads it.
    auto finished = co_await finish_pending(pending);
    CO_TRY_VOID(finished);
    co_return started;
  }

  Task<Result<std::size_t>> start_direct_over(std::uint64_t offset, std::span<const std::byte> data,
                                              std::shared_ptr<PendingWrites> pending) {
    const FileRange blocks = parts_.blocks_of(offset, data.size());
    std::optional<Transaction> transaction;
    if (changes_dinode(offset + data.size())) {
      CO_TRY(Transaction begun, co_await parts_.volume.journal->begin({.blocks = 1, .revokes = 0}));
      transaction.emplace(std::move(begun));
    }
    const bool ordered = parts_.volume.options.data == DataMode::ordered && offset + data.size() > inode_.size_bytes();
    const std::uint64_t allocated_in = ordered ? parts_.volume.journal->running_set() : 0;
    CO_TRY_VOID(co_await start_direct(blocks, data.data(), allocated_in, pending));
    if (ordered) parts_.write_out.of(inode_.inode()).order(*transaction);
    if (transaction) end_write(*transaction, offset + data.size());
    co_return data.size();
  }

  Task<Result<std::size_t>> start_direct_new(std::uint64_t offset, std::span<const std::byte> data,
                                             MetadataTree::Cost cost, std::shared_ptr<PendingWrites> pending) {
    FileRange blocks = parts_.blocks_of(offset, data.size());
    CO_TRY(FileRoom room, co_await find_room(parts_, inode_, blocks, cost, options_.exempt_from_limits));
    blocks.end = blocks.first + room.count;
    const std::uint32_t log_blocks = room.cost.log_blocks + room.allotment.log_blocks() + 1;
    CO_TRY(Transaction transaction, co_await parts_.volume.journal->begin({.blocks = log_blocks, .revokes = 0}));
    const bool ordered = parts_.volume.options.data == DataMode::ordered;
    const std::uint64_t allocated_in = ordered ? parts_.volume.journal->running_set() : 0;
    auto put = co_await parts_.tree.allocate(transaction, room.allotment, inode_, FileBlock(blocks.first), room.count,
                                             [](FileBlock, Extent) {});
    if (put) put = co_await start_direct(blocks, data.data(), allocated_in, pending);
    if (!put) {
      parts_.volume.withdraw(put.error());
      co_return std::unexpected(put.error());
    }
    if (ordered) parts_.write_out.of(inode_.inode()).order(transaction);
    end_write(transaction, parts_.bytes_of(blocks.end));
    co_return parts_.bytes_of(room.count);
  }

  Task<Result<>> start_direct(FileRange blocks, const std::byte* data, std::uint64_t allocated_in,
                              std::shared_ptr<PendingWrites> pending) {
    while (!blocks.empty()) {
      CO_TRY(MappedRun run, co_await parts_.tree.map(inode_, FileBlock(blocks.first), blocks.end - blocks.first));
      CHECK_INVARIANT(!run.is_hole());
      parts_.write_out.of(inode_.inode()).write_through(run.first, run.start, run.length, data, allocated_in, pending);
      blocks.first += run.length;
      data += parts_.bytes_of(run.length);
    }
    co_return Result<>{};
  }

  FileParts& parts_;
  const LockedInode& inode_;
  FileData::WriteOptions options_;
};

}  // namespace

Task<Result<>> finish_pending(std::shared_ptr<PendingWrites> pending) {
  while (pending->count > 0)
    co_await pending->changed.wait();
  if (pending->error) co_return std::unexpected(*pending->error);
  co_return Result<>{};
}

Task<Result<>> unstuff_file(FileParts& parts, Transaction& transaction, Allotment& allotment,
                            const LockedInode& inode) {
  const bool ordered = parts.volume.options.data == DataMode::ordered;
  const std::uint64_t allocated_in = ordered ? parts.volume.journal->running_set() : 0;
  co_return co_await parts.tree.unstuff(transaction, allotment, inode,
                                        [&](BlockNo block, std::span<const std::byte> contents) {
                                          DirtyData& dirty = parts.write_out.of(inode.inode());
                                          DirtyData::Slot slot = dirty.slot(FileBlock(0), block, 1, allocated_in);
                                          CHECK_INVARIANT(slot.fresh);
                                          std::ranges::copy(contents, slot.bytes.begin());
                                          std::ranges::fill(slot.bytes.subspan(contents.size()), std::byte{0});
                                          if (ordered) dirty.order(transaction);
                                        });
}

Task<Result<std::size_t>> write_file(FileParts& parts, const LockedInode& inode, std::uint64_t offset,
                                     std::span<const std::byte> data, FileData::WriteOptions options) {
  CO_TRY_VOID(parts.volume.check_writable());
  if (data.empty()) co_return std::size_t{0};
  if (offset >= kMaxFileBytes) co_return fail(EFBIG);
  data = data.first(std::min<std::uint64_t>(data.size(), kMaxFileBytes - offset));
  FileWrite write(parts, inode, options);
  auto written = co_await write.run(offset, data);
  if (!written || !options.direct) co_return written;
  // What could not go straight to the disk follows it there.
  if (DirtyData* dirty = inode.inode().dirty.get())
    CO_TRY_VOID(co_await dirty->write_back(parts.blocks_of(offset, *written)));
  if (inode.is_stuffed() || inode.is_journaled_data()) CO_TRY_VOID(co_await parts.volume.journal->flush());
  co_return written;
}

}  // namespace corral
