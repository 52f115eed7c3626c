#include "fs/quota_table.h"

#include <algorithm>
#include <array>
#include <limits>
#include <vector>

namespace corral {

namespace {

constexpr Duration kWarningPeriod = std::chrono::seconds(10);
/// Users and groups remembered only for their limits.
constexpr std::size_t kMostEntries = 16384;

const char* name_of(QuotaKind kind) {
  return kind == QuotaKind::user ? "user" : "group";
}

std::array<QuotaId, 2> ids_of(Ownership owner) {
  return {QuotaId{QuotaKind::user, owner.uid}, QuotaId{QuotaKind::group, owner.gid}};
}

/// The files' contents are anything: sums wrap instead of being undefined.
std::int64_t sum(std::int64_t a, std::int64_t b) {
  return static_cast<std::int64_t>(static_cast<std::uint64_t>(a) + static_cast<std::uint64_t>(b));
}

}  // namespace

QuotaTable::QuotaTable(Volume& volume, Allocator& allocator, MetadataTree& tree)
    : volume_(volume), allocator_(allocator), tree_(tree), changes_(volume, tree), syncing_(volume.executor) {}

QuotaTable::~QuotaTable() = default;

Task<Result<>> QuotaTable::open(InodeRef quota, InodeRef changes) {
  file_.emplace(volume_, allocator_, tree_, std::move(quota));
  if (changes != nullptr) changes_inode_ = changes->address();
  if (changes == nullptr || volume_.options.quota == QuotaMode::off) co_return Result<>{};
  CO_TRY(const auto left, co_await changes_.open(std::move(changes)));
  for (const QuotaChanges::Change& change : left) {
    Entry& entry = entries_[change.id];
    if (entry.slot)
      co_return fail_corrupt("quota_change file, inode {}: {} {} has two slots", changes_.inode().value,
                             name_of(change.id.kind), change.id.id);
    entry.slot = change.slot;
    entry.change = change.blocks;
  }
  if (!left.empty()) volume_.log.info("found {} quota changes", left.size());
  co_return Result<>{};
}

void QuotaTable::close() {
  changes_.close();
  file_.reset();
}

Task<Result<QuotaTable::Room>> QuotaTable::prepare() {
  if (!accounting()) co_return Room();
  // Counted first: what others take meanwhile must not be this one's.
  ++rooms_;
  Room room(this);
  for (bool synced = false;; synced = true) {
    CO_TRY(const bool enough, co_await changes_.make_available(std::size_t{rooms_} * kSlotsPerRoom));
    if (enough) co_return room;
    if (synced) co_return fail(ENOSPC, "the quota_change file, inode {}, is full", changes_.inode().value);
    CO_TRY_VOID(co_await sync());
  }
}

Task<Result<>> QuotaTable::look_up(QuotaId id) {
  if (entries_[id].record) co_return Result<>{};
  forget_unchanged();
  CO_TRY(const ondisk::Quota record, co_await file_->read(id));
  entries_[id].record = QuotaFigures{record.limit, record.warn, static_cast<std::int64_t>(record.value.value())};
  co_return Result<>{};
}

void QuotaTable::forget_unchanged() {
  if (entries_.size() <= kMostEntries) return;
  std::erase_if(entries_, [](const auto& item) { return !item.second.slot && item.second.promised == 0; });
}

std::uint64_t QuotaTable::allowance(QuotaId id, std::uint64_t least) {
  Entry& entry = entries_[id];
  const QuotaFigures& record = *entry.record;
  const __int128_t used = static_cast<__int128_t>(record.used) + entry.change + entry.promised;
  const Time now = volume_.executor.now();
  if (record.limit != 0 && used + least > record.limit) {
    if (!entry.told_exceeded) volume_.log.info("quota exceeded for {} {}", name_of(id.kind), id.id);
    entry.told_exceeded = true;
    return used >= record.limit ? 0 : static_cast<std::uint64_t>(record.limit - used);
  }
  if (record.warn != 0 && used > record.warn && (!entry.last_warning || now >= *entry.last_warning + kWarningPeriod)) {
    volume_.log.info("quota warning for {} {}", name_of(id.kind), id.id);
    entry.last_warning = now;
  }
  if (record.limit == 0) return std::numeric_limits<std::uint64_t>::max();
  return static_cast<std::uint64_t>(record.limit - used);
}

Task<Result<QuotaTable::Promise>> QuotaTable::promise(Ownership owner, std::uint64_t least, std::uint64_t more) {
  Promise promise;
  if (!enforcing() || !owner.charged || least + more == 0) co_return promise;
  const auto ids = ids_of(owner);
  // One look-up may make the other's result be forgotten.
  while (!std::ranges::all_of(ids, [this](QuotaId id) { return entries_[id].record.has_value(); }))
    for (QuotaId id : ids)
      CO_TRY_VOID(co_await look_up(id));
  std::uint64_t allowed = least + more;
  for (QuotaId id : ids)
    allowed = std::min(allowed, allowance(id, least));
  if (allowed < least) co_return fail(EDQUOT);
  for (QuotaId id : ids)
    entries_[id].promised += allowed;
  promise.table_ = this;
  promise.owner_ = owner;
  promise.blocks_ = allowed;
  co_return promise;
}

void QuotaTable::Promise::give_up(std::uint64_t blocks) {
  if (table_ == nullptr) return;
  CHECK_INVARIANT(blocks <= blocks_);
  blocks_ -= blocks;
  for (QuotaId id : ids_of(owner_))
    table_->entries_[id].promised -= blocks;
}

void QuotaTable::write_change(Transaction& transaction, QuotaId id, Entry& entry, std::int64_t change) {
  entry.change = change;
  if (!entry.slot) {
    if (change == 0) return;
    entry.slot = changes_.take();
  }
  changes_.write(transaction, {*entry.slot, id, change});
  if (change == 0) entry.slot.reset();
}

void QuotaTable::charge_one(Transaction& transaction, QuotaId id, std::int64_t blocks) {
  Entry& entry = entries_[id];
  if (blocks < 0) entry.told_exceeded = false;
  write_change(transaction, id, entry, sum(entry.change, blocks));
}

Result<> QuotaTable::charge(Transaction& transaction, Ownership owner, std::int64_t blocks) {
  if (!accounting() || !owner.charged || blocks == 0) return {};
  // Can only fail for more owners than a Room is for.
  const auto missing = std::ranges::count_if(ids_of(owner), [this](QuotaId id) { return !entries_[id].slot; });
  if (std::cmp_less(changes_.available(), missing))
    return fail(ENOSPC, "no slot of the quota_change file, inode {}, is at hand", changes_.inode().value);
  for (QuotaId id : ids_of(owner))
    charge_one(transaction, id, blocks);
  return {};
}

Task<Result<>> QuotaTable::transfer(Transaction& transaction, Ownership from, Ownership to, std::int64_t blocks) {
  if (!accounting() || !from.charged || blocks == 0) co_return Result<>{};
  CO_TRY(const bool enough, co_await changes_.make_available(kSlotsPerRoom));
  if (!enough) co_return fail(ENOSPC, "the quota_change file, inode {}, is full", changes_.inode().value);
  for (std::size_t i = 0; i < 2; ++i) {
    const QuotaId old_id = ids_of(from)[i];
    const QuotaId new_id = ids_of(to)[i];
    if (old_id == new_id) continue;
    charge_one(transaction, old_id, -blocks);
    charge_one(transaction, new_id, blocks);
  }
  co_return Result<>{};
}

Task<Result<QuotaFigures>> QuotaTable::figures(QuotaId id) {
  CO_TRY(const ondisk::Quota record, co_await file_->read(id));
  const auto entry = entries_.find(id);
  const std::int64_t change = entry == entries_.end() ? 0 : entry->second.change;
  co_return QuotaFigures{record.limit, record.warn, sum(static_cast<std::int64_t>(record.value.value()), change)};
}

/// Adds this node's change to the record, as it is now, and clears it. Usage never becomes negative: charges of a time
/// without accounting may be missing.
void QuotaTable::fold(Transaction& transaction, QuotaId id, ondisk::Quota& record) {
  Entry& entry = entries_[id];
  if (entry.slot) {
    const std::int64_t used = sum(static_cast<std::int64_t>(record.value.value()), entry.change);
    record.value = static_cast<std::uint64_t>(std::max<std::int64_t>(used, 0));
    write_change(transaction, id, entry, 0);
  }
  entry.record = QuotaFigures{record.limit, record.warn, static_cast<std::int64_t>(record.value.value())};
}

Task<Result<std::vector<QuotaRecord>>> QuotaTable::records() {
  CO_TRY(auto in_file, co_await file_->read_all());
  for (const auto& [id, entry] : entries_)
    if (entry.change != 0) in_file.try_emplace(id.record());
  std::vector<QuotaRecord> records;
  records.reserve(in_file.size());
  for (const auto& [number, record] : in_file) {
    const QuotaId id = QuotaId::of_record(number);
    const auto entry = entries_.find(id);
    const std::int64_t change = entry == entries_.end() ? 0 : entry->second.change;
    const std::int64_t used = sum(static_cast<std::int64_t>(record.value.value()), change);
    records.push_back({.kind = id.kind, .id = id.id, .figures = {record.limit, record.warn, used}});
  }
  co_return records;
}

Task<Result<>> QuotaTable::set_usage(QuotaId id, std::uint64_t blocks) {
  CO_TRY(const GlockHolder changing, co_await volume_.change());
  const Mutex::Guard guard = co_await syncing_.lock();
  co_return co_await file_->update({id}, 1, [&](Transaction& transaction, QuotaId record_id, ondisk::Quota& record) {
    fold(transaction, record_id, record);
    record.value = blocks;
    entries_[record_id].record->used = static_cast<std::int64_t>(blocks);
  });
}

Task<Result<>> QuotaTable::set_limits(QuotaId id, std::optional<std::uint64_t> limit,
                                      std::optional<std::uint64_t> warn) {
  CO_TRY(const GlockHolder changing, co_await volume_.change());
  const Mutex::Guard guard = co_await syncing_.lock();
  co_return co_await file_->update({id}, 1, [&](Transaction& transaction, QuotaId record_id, ondisk::Quota& record) {
    if (limit) record.limit = *limit;
    if (warn) record.warn = *warn;
    fold(transaction, record_id, record);
  });
}

Task<Result<>> QuotaTable::sync() {
  if (!accounting()) co_return Result<>{};
  const Mutex::Guard guard = co_await syncing_.lock();
  std::vector<QuotaId> changed;
  for (const auto& [id, entry] : entries_)
    if (entry.slot) changed.push_back(id);
  auto updated = co_await file_->update(
      std::move(changed), 1,
      [this](Transaction& transaction, QuotaId id, ondisk::Quota& record) { fold(transaction, id, record); });
  if (updated || updated.error().code() != ENOSPC) co_return updated;
  volume_.log.warning("no space for the quota file to grow; quota changes stay in this node's own file");
  co_return Result<>{};
}

void QuotaTable::forget_records(BlockNo inode) {
  if (!file_ || file_->inode() != inode) return;
  for (auto& [id, entry] : entries_)
    entry.record.reset();
}

void QuotaTable::add_to(LogHeaderExtras& extras) const {
  extras.quota_inode = changes_inode_;
}

}  // namespace corral
