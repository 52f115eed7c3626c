#include "offline/totals.h"

#include "offline/journals.h"
#include "offline/offline_transaction.h"
#include "ondisk/statfs_file.h"

namespace corral {

using namespace ondisk;

namespace {

/// The counts, for changing within the transaction.
Task<Result<StatfsChange*>> totals_in(OfflineTransaction& transaction, BlockNo inode) {
  CO_TRY(const std::span<std::byte> block, co_await transaction.change(inode));
  CO_TRY_VOID(check_statfs_file(block, inode, transaction.volume().geometry()));
  co_return &view<StatfsChange>(block, sizeof(Dinode));
}

Task<Result<bool>> holds_any(const VolumeReader& volume, BlockNo inode) {
  CO_TRY(const OfflineInode file, co_await volume.read_inode(inode));
  CO_TRY_VOID(check_statfs_file(file.block(), inode, volume.geometry()));
  const auto& counts = view<StatfsChange>(file.block(), sizeof(Dinode));
  co_return counts.total != 0 || counts.free != 0 || counts.dinodes != 0;
}

Task<Result<>> move_totals(Executor& executor, const VolumeReader& volume, const std::vector<OfflineJournal>& journals,
                           const Logger& log) {
  OfflineTransaction transaction(volume);
  CO_TRY(const OfflineInode statfs, co_await volume.system_file("statfs"));
  CO_TRY(StatfsChange * sum, co_await totals_in(transaction, statfs.number()));
  std::vector<std::string> lines;
  for (const OfflineJournal& journal : journals) {
    CO_TRY(const bool any, co_await holds_any(volume, journal.local_statfs));
    if (!any) continue;
    CO_TRY(StatfsChange * left, co_await totals_in(transaction, journal.local_statfs));
    sum->total = sum->total + left->total;
    sum->free = sum->free + left->free;
    sum->dinodes = sum->dinodes + left->dinodes;
    lines.push_back(fmt::format("jid={}: {}", journal.id.value, describe_statfs_update(*sum, *left)));
    *left = {};
  }
  if (lines.empty()) co_return Result<>{};
  NullLogSink nobody;
  CO_TRY_VOID(co_await transaction.commit(executor, executor.clock().wall(), Logger(nobody)));
  for (const std::string& line : lines)
    log.info("{}", line);
  co_return Result<>{};
}

}  // namespace

Task<Result<>> settle_totals(Executor& executor, const VolumeReader& volume, Logger log) {
  CO_TRY(const std::vector<OfflineJournal> journals, co_await find_journals(volume));
  Result<> moved = co_await move_totals(executor, volume, journals, log);
  if (moved || moved.error().kind() != ErrorKind::corrupt) co_return moved;
  log.warning("Cannot update master statfs: {}", moved.error().describe());
  co_return Result<>{};
}

}  // namespace corral
