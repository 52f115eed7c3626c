#include "fs/statfs_counters.h"

#include <algorithm>

#include "fs/system_inode.h"
#include "ondisk/statfs_file.h"

namespace corral {

namespace {
Result<> check_counts_inode(const LockedInode& inode, const char* name) {
  if (inode.is_stuffed() && inode.size_bytes() >= sizeof(ondisk::StatfsChange)) return {};
  return fail_corrupt("{} file, inode {}: height {}, {} bytes, expected {} bytes in the inode", name,
                      inode.address().value, inode.dinode().height.value(), inode.size_bytes(),
                      sizeof(ondisk::StatfsChange));
}

/// The files' contents are anything: sums wrap instead of being undefined.
std::int64_t sum(std::int64_t a, std::int64_t b) {
  return static_cast<std::int64_t>(static_cast<std::uint64_t>(a) + static_cast<std::uint64_t>(b));
}
}  // namespace

StatfsCounters::Counts StatfsCounters::read(const Block& dinode) {
  const auto& disk = dinode.as<ondisk::StatfsChange>(sizeof(ondisk::Dinode));
  return {static_cast<std::int64_t>(disk.total.value()), static_cast<std::int64_t>(disk.free.value()),
          static_cast<std::int64_t>(disk.dinodes.value())};
}

ondisk::StatfsChange StatfsCounters::on_disk(const Counts& counts) {
  ondisk::StatfsChange disk{};
  disk.total = static_cast<std::uint64_t>(counts.total);
  disk.free = static_cast<std::uint64_t>(counts.free);
  disk.dinodes = static_cast<std::uint64_t>(counts.dinodes);
  return disk;
}

void StatfsCounters::write(Transaction& transaction, Block& dinode, const Counts& counts) {
  transaction.modify_as<ondisk::StatfsChange>(dinode, sizeof(ondisk::Dinode)) = on_disk(counts);
}

Task<Result<>> StatfsCounters::open(InodeRef master, InodeRef local) {
  master_ = std::move(master);
  CO_TRY_VOID(co_await lock_master(GlockMode::shared));
  if (local == nullptr) co_return Result<>{};
  CO_TRY(LockedInode inode, co_await lock_system_inode(volume_, std::move(local), GlockMode::exclusive));
  CO_TRY_VOID(check_counts_inode(inode, "statfs_change"));
  local_ = read(inode.block());
  local_inode_ = std::move(inode);
  co_return Result<>{};
}

void StatfsCounters::close() {
  local_inode_.release();
  master_.reset();
}

Task<Result<LockedInode>> StatfsCounters::lock_master(GlockMode mode) {
  CO_TRY(LockedInode inode, co_await lock_system_inode(volume_, master_, mode));
  CO_TRY_VOID(check_counts_inode(inode, "statfs"));
  master_counts_ = read(inode.block());
  co_return inode;
}

void StatfsCounters::change(Transaction& transaction, std::int64_t free, std::int64_t dinodes) {
  local_.free = sum(local_.free, free);
  local_.dinodes = sum(local_.dinodes, dinodes);
  write(transaction, local_inode_.block(), local_);
}

void StatfsCounters::grow(Transaction& transaction, std::uint64_t blocks) {
  local_.total = sum(local_.total, static_cast<std::int64_t>(blocks));
  change(transaction, static_cast<std::int64_t>(blocks), 0);
}

Task<Result<SpaceFigures>> StatfsCounters::figures() {
  CO_TRY_VOID(co_await lock_master(GlockMode::shared));
  const std::int64_t total = std::max<std::int64_t>(0, sum(master_counts_.total, local_.total));
  const std::int64_t free = std::clamp<std::int64_t>(sum(master_counts_.free, local_.free), 0, total);
  const std::int64_t dinodes = std::max<std::int64_t>(0, sum(master_counts_.dinodes, local_.dinodes));
  co_return SpaceFigures{static_cast<std::uint64_t>(total), static_cast<std::uint64_t>(free),
                         static_cast<std::uint64_t>(dinodes)};
}

Task<Result<>> StatfsCounters::sync() {
  if (local_ == Counts{}) co_return Result<>{};
  CO_TRY(LockedInode master, co_await lock_master(GlockMode::exclusive));
  if (local_ == Counts{}) co_return Result<>{};
  CO_TRY(Transaction transaction, co_await volume_.journal->begin({.blocks = 2}));
  // What was added while begin() waited goes along.
  add_to_master(transaction, master, local_);
  local_ = {};
  write(transaction, local_inode_.block(), local_);
  co_return Result<>{};
}

Task<Result<>> StatfsCounters::take_over(const LockedInode& left, JournalId of) {
  CO_TRY_VOID(check_counts_inode(left, "statfs_change"));
  const Counts counts = read(left.block());
  if (counts == Counts{}) co_return Result<>{};
  CO_TRY(LockedInode master, co_await lock_master(GlockMode::exclusive));
  CO_TRY(Transaction transaction, co_await volume_.journal->begin({.blocks = 2}));
  add_to_master(transaction, master, counts);
  write(transaction, left.block(), {});
  volume_.log.info("jid={}: {}", of.value, ondisk::describe_statfs_update(on_disk(master_counts_), on_disk(counts)));
  co_return Result<>{};
}

void StatfsCounters::add_to_master(Transaction& transaction, const LockedInode& master, const Counts& counts) {
  master_counts_ = {sum(master_counts_.total, counts.total), sum(master_counts_.free, counts.free),
                    sum(master_counts_.dinodes, counts.dinodes)};
  write(transaction, master.block(), master_counts_);
}

bool StatfsCounters::beyond_percent(std::uint32_t percent) const {
  if (percent == 0) return false;
  const __int128_t threshold = static_cast<__int128_t>(master_counts_.free) * percent;
  const __int128_t change = static_cast<__int128_t>(local_.free) * 100;
  return change >= threshold || change <= -threshold;
}

void StatfsCounters::add_to(LogHeaderExtras& extras) const {
  if (!local_inode_.held()) return;
  extras.statfs_inode = local_inode_.address();
  extras.local_total = local_.total;
  extras.local_free = local_.free;
  extras.local_dinodes = local_.dinodes;
}

}  // namespace corral
