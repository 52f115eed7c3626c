#include "fs/quota_file.h"

#include <algorithm>
#include <cstring>

#include "fs/system_inode.h"

namespace corral {

namespace {

/// Bounds the transaction: each record may need a path of new blocks down a tall tree.
constexpr std::size_t kRecordsPerTransaction = 8;

constexpr std::size_t kRecordBytes = sizeof(ondisk::Quota);

std::uint64_t offset_of(QuotaId id) {
  return id.record() * kRecordBytes;
}

/// Where a record lies in the file's blocks.
struct RecordBlocks {
  FileBlock first;
  std::uint32_t count;
};

RecordBlocks blocks_of(QuotaId id, const ondisk::Geometry& geometry) {
  const std::uint64_t first = offset_of(id) >> geometry.block_shift();
  const std::uint64_t last = (offset_of(id) + kRecordBytes - 1) >> geometry.block_shift();
  return {FileBlock(first), static_cast<std::uint32_t>(last - first + 1)};
}

/// Calls piece(number of the block, bytes within that block, bytes within the record) for the record's parts.
template <class Piece>
void for_pieces(QuotaId id, const ondisk::Geometry& geometry, Piece piece) {
  std::size_t done = 0;
  for (std::uint32_t i = 0; done < kRecordBytes; ++i) {
    const std::size_t at = (offset_of(id) + done) & (geometry.block_size() - 1);
    const std::size_t length = std::min<std::size_t>(kRecordBytes - done, geometry.block_size() - at);
    piece(i, at, done, length);
    done += length;
  }
}

}  // namespace

Task<Result<ondisk::Quota>> QuotaFile::read(QuotaId id) {
  CO_TRY(LockedInode inode, co_await lock_system_inode(volume_, inode_, GlockMode::shared));
  ondisk::Quota record{};
  const auto bytes = std::as_writable_bytes(std::span(&record, 1));
  const std::uint64_t offset = offset_of(id);
  if (offset >= inode.size_bytes()) co_return record;
  if (inode.is_stuffed()) {
    const auto contents = inode.bytes().subspan(sizeof(ondisk::Dinode), inode.size_bytes());
    std::ranges::copy(contents.subspan(offset, std::min(kRecordBytes, contents.size() - offset)), bytes.begin());
    co_return record;
  }
  CO_TRY(const auto blocks, co_await record_blocks(inode, id));
  for_pieces(id, volume_.geometry, [&](std::uint32_t i, std::size_t at, std::size_t done, std::size_t length) {
    if (blocks[i] != nullptr) std::memcpy(bytes.data() + done, blocks[i]->bytes().data() + at, length);
  });
  co_return record;
}

namespace {

/// Puts the part of the file's contents that begins at `offset` into the records that it is of.
void add_records(std::map<std::uint64_t, ondisk::Quota>& records, std::uint64_t offset,
                 std::span<const std::byte> piece) {
  constexpr std::uint64_t kMostRecordNumbers = std::uint64_t{2} << 32;
  for (std::size_t done = 0; done < piece.size();) {
    const std::uint64_t number = (offset + done) / kRecordBytes;
    const std::size_t within = (offset + done) % kRecordBytes;
    const std::size_t length = std::min(kRecordBytes - within, piece.size() - done);
    const auto part = piece.subspan(done, length);
    done += length;
    // Most are of nobody.
    if (number >= kMostRecordNumbers || std::ranges::all_of(part, [](std::byte byte) { return byte == std::byte{0}; }))
      continue;
    std::ranges::copy(part, std::as_writable_bytes(std::span(&records[number], 1)).subspan(within).begin());
  }
}

}  // namespace

Task<Result<std::map<std::uint64_t, ondisk::Quota>>> QuotaFile::read_all() {
  CO_TRY(LockedInode inode, co_await lock_system_inode(volume_, inode_, GlockMode::shared));
  std::map<std::uint64_t, ondisk::Quota> records;
  const std::uint64_t size = inode.size_bytes();
  if (inode.is_stuffed()) {
    add_records(records, 0, inode.bytes().subspan(sizeof(ondisk::Dinode), size));
    co_return records;
  }
  const std::uint32_t shift = volume_.geometry.block_shift();
  for (FileBlock at; at.value < volume_.geometry.blocks_for(size);) {
    CO_TRY(const MappedRun run, co_await tree_.map(inode, at, volume_.geometry.blocks_for(size) - at.value));
    for (std::uint64_t i = 0; i < run.length && !run.is_hole(); ++i) {
      CO_TRY(const BlockRef block, co_await volume_.cache.read(inode.owner(), run.start + i, accept_data));
      const std::uint64_t offset = (at.value + i) << shift;
      add_records(records, offset, block->bytes().first(std::min<std::uint64_t>(block->bytes().size(), size - offset)));
      if (records.size() > kMostRecords)
        co_return fail(EFBIG, "the quota file, inode {}, has more than {} users and groups", inode.address().value,
                       kMostRecords);
    }
    at += run.length;
  }
  co_return records;
}

Task<Result<std::vector<BlockRef>>> QuotaFile::record_blocks(const LockedInode& inode, QuotaId id) {
  const RecordBlocks place = blocks_of(id, volume_.geometry);
  std::vector<BlockRef> blocks(place.count);
  for (std::uint32_t i = 0; i < place.count; ++i) {
    CO_TRY(const MappedRun run, co_await tree_.map(inode, place.first + i, 1));
    if (run.is_hole()) continue;
    CO_TRY(blocks[i], co_await volume_.cache.read(inode.owner(), run.start, accept_data));
  }
  co_return blocks;
}

Task<Result<>> QuotaFile::update(std::vector<QuotaId> ids, std::uint32_t log_blocks, const Change& change) {
  Result<> result;
  // Neighbouring records share blocks.
  std::ranges::sort(ids, {}, &QuotaId::record);
  for (std::size_t at = 0; at < ids.size(); at += kRecordsPerTransaction) {
    const auto some = std::span(ids).subspan(at, std::min(kRecordsPerTransaction, ids.size() - at));
    auto updated = co_await update_some(some, log_blocks, change);
    if (updated) continue;
    if (updated.error().code() != ENOSPC) co_return updated;
    result = std::move(updated);
  }
  co_return result;
}

Task<Result<>> QuotaFile::update_some(std::span<const QuotaId> ids, std::uint32_t log_blocks, const Change& change) {
  CO_TRY(LockedInode inode, co_await lock_system_inode(volume_, inode_, GlockMode::exclusive));
  if (inode.is_stuffed()) CO_TRY_VOID(co_await unstuff(inode));

  // Each cost is computed for the tree as it is now, so their sum is enough for all.
  AllotmentRequest request{.goal = BlockNo(inode.dinode().goal_data), .owner = {.charged = false}};
  std::uint32_t blocks = 1;
  std::vector<std::vector<BlockRef>> read_before;  // so that no read can fail halfway through the transaction
  for (QuotaId id : ids) {
    const RecordBlocks place = blocks_of(id, volume_.geometry);
    CO_TRY(const MetadataTree::Cost cost, co_await tree_.allocation_cost(inode, place.first, place.count));
    request.blocks += cost.new_blocks;
    blocks += cost.log_blocks + place.count + log_blocks;
    CO_TRY(auto record, co_await record_blocks(inode, id));
    read_before.push_back(std::move(record));
  }
  Allotment allotment;
  if (request.blocks > 0) {
    CO_TRY(allotment, co_await allocator_.allot(request));
    blocks += allotment.log_blocks();
  }
  CO_TRY(Transaction transaction, co_await volume_.journal->begin({.blocks = blocks}));
  const MetadataTree::NewRun zero = [&](FileBlock, Extent extent) {
    for (std::uint32_t i = 0; i < extent.length; ++i)
      create_block(transaction, inode, extent.start + i, {});
  };
  for (QuotaId id : ids) {
    const RecordBlocks place = blocks_of(id, volume_.geometry);
    CO_TRY_VOID(co_await tree_.allocate(transaction, allotment, inode, place.first, place.count, zero));
    CO_TRY(const auto record, co_await record_blocks(inode, id));
    ondisk::Quota quota{};
    const auto bytes = std::as_writable_bytes(std::span(&quota, 1));
    for_pieces(id, volume_.geometry, [&](std::uint32_t i, std::size_t at, std::size_t done, std::size_t length) {
      std::memcpy(bytes.data() + done, record[i]->bytes().data() + at, length);
    });
    change(transaction, id, quota);
    for_pieces(id, volume_.geometry, [&](std::uint32_t i, std::size_t at, std::size_t done, std::size_t length) {
      std::memcpy(transaction.modify_data(*record[i]).data() + at, bytes.data() + done, length);
    });
    touch(transaction, inode, offset_of(id) + kRecordBytes);
  }
  co_return Result<>{};
}

Task<Result<>> QuotaFile::unstuff(const LockedInode& inode) {
  CO_TRY(Allotment allotment,
         co_await allocator_.allot({.goal = inode.address(), .blocks = 1, .owner = {.charged = false}}));
  CO_TRY(Transaction transaction, co_await volume_.journal->begin({.blocks = allotment.log_blocks() + 2}));
  co_return co_await tree_.unstuff(
      transaction, allotment, inode,
      [&](BlockNo block, std::span<const std::byte> contents) { create_block(transaction, inode, block, contents); });
}

void QuotaFile::create_block(Transaction& transaction, const LockedInode& inode, BlockNo block,
                             std::span<const std::byte> contents) {
  BlockRef created = volume_.cache.create(inode.owner(), block);
  std::ranges::copy(contents, transaction.modify_data(*created).begin());
}

void QuotaFile::touch(Transaction& transaction, const LockedInode& inode, std::uint64_t end_bytes) {
  auto& dinode = inode.modify(transaction);
  if (end_bytes > dinode.size) dinode.size = end_bytes;
  const WallTime now = volume_.clock.wall();
  dinode.mtime = dinode.atime = static_cast<std::uint64_t>(now.seconds);
  dinode.mtime_nanoseconds = dinode.atime_nanoseconds = now.nanoseconds;
}

}  // namespace corral
