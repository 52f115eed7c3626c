#include "fs/quota_changes.h"

#include <utility>

#include "fs/system_inode.h"
#include "ondisk/validate.h"

namespace corral {

namespace {

/// The kernel accepts no larger file either.
constexpr std::uint64_t kMaxFileBytes = 64u << 20;

Result<> check_changes_block(std::span<const std::byte> bytes, BlockNo number, const ondisk::Geometry&) {
  return ondisk::check_meta_header(bytes, number, ondisk::MetaType::quota_change);
}

}  // namespace

Task<Result<std::vector<QuotaChanges::Change>>> QuotaChanges::open(InodeRef inode) {
  CO_TRY(LockedInode locked, co_await lock_system_inode(volume_, std::move(inode), GlockMode::exclusive));
  const std::uint64_t size = locked.size_bytes();
  if (size == 0 || size > kMaxFileBytes || size % volume_.geometry.block_size() != 0 || locked.is_stuffed())
    co_return fail_corrupt("quota_change file, inode {}: {} bytes, expected whole blocks, at most {} bytes",
                           locked.address().value, size, kMaxFileBytes);
  std::vector<Change> changes;
  CO_TRY_VOID(co_await read_system_file(volume_, tree_, locked,
                                        [&](std::span<const std::byte> piece) { return read_slots(piece, changes); }));
  blocks_.resize(size >> volume_.geometry.block_shift());
  next_to_load_ = 0;
  inode_ = std::move(locked);
  for (const Change& change : changes)
    CO_TRY_VOID(co_await load(change.slot / per_block()));
  co_return changes;
}

/// The pieces come in order; `blocks_` counts those seen.
Result<> QuotaChanges::read_slots(std::span<const std::byte> piece, std::vector<Change>& changes) {
  const std::uint32_t block_size = volume_.geometry.block_size();
  for (std::size_t at = 0; at < piece.size(); at += block_size, ++next_to_load_) {
    TRY(const auto records, ondisk::quota_changes(piece.subspan(at, block_size), BlockNo(next_to_load_)));
    for (std::uint32_t i = 0; i < per_block(); ++i) {
      if (records[i].change == 0) continue;
      const Slot slot = next_to_load_ * per_block() + i;
      const auto kind = (records[i].flags & ondisk::kQuotaChangeUser) != 0 ? QuotaKind::user : QuotaKind::group;
      changes.push_back({slot, {kind, records[i].id}, static_cast<std::int64_t>(records[i].change.value())});
      used_.insert(slot);
    }
  }
  return {};
}

void QuotaChanges::close() {
  blocks_.clear();
  inode_.release();
}

Task<Result<>> QuotaChanges::load(std::uint32_t block) {
  if (blocks_[block] != nullptr) co_return Result<>{};
  CO_TRY(MappedRun run, co_await tree_.map(inode_, FileBlock(block), 1));
  if (run.is_hole())
    co_return fail_corrupt("quota_change file, inode {}: hole at block {} of the file", inode_.address().value, block);
  CO_TRY(BlockRef read, co_await volume_.cache.read(inode_.owner(), run.start, check_changes_block));
  if (blocks_[block] != nullptr) co_return Result<>{};  // somebody else was faster
  blocks_[block] = std::move(read);
  for (Slot slot = block * per_block(); slot < (block + 1) * per_block(); ++slot)
    if (!used_.contains(slot)) free_.insert(slot);
  co_return Result<>{};
}

Task<Result<bool>> QuotaChanges::make_available(std::size_t slots) {
  while (free_.size() < slots) {
    while (next_to_load_ < blocks_.size() && blocks_[next_to_load_] != nullptr)
      ++next_to_load_;
    if (next_to_load_ == blocks_.size()) co_return false;
    CO_TRY_VOID(co_await load(next_to_load_));
  }
  co_return true;
}

QuotaChanges::Slot QuotaChanges::take() {
  CHECK_INVARIANT(!free_.empty());
  const Slot slot = *free_.begin();
  free_.erase(free_.begin());
  used_.insert(slot);
  return slot;
}

void QuotaChanges::write(Transaction& transaction, const Change& change) {
  CHECK_INVARIANT(used_.contains(change.slot));
  const std::size_t offset = sizeof(ondisk::MetaHeader) + change.slot % per_block() * sizeof(ondisk::QuotaChange);
  auto& record = transaction.modify_as<ondisk::QuotaChange>(*blocks_[change.slot / per_block()], offset);
  const bool in_use = change.blocks != 0;
  record.change = static_cast<std::uint64_t>(change.blocks);
  record.flags = in_use && change.id.kind == QuotaKind::user ? ondisk::kQuotaChangeUser : 0;
  record.id = in_use ? change.id.id : 0;
  if (in_use) return;
  used_.erase(change.slot);
  free_.insert(change.slot);
}

}  // namespace corral
