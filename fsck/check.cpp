#include "fsck/check.h"

#include <algorithm>

#include "fsck/cluster_area_pass.h"
#include "fsck/directory_pass.h"
#include "fsck/directory_rebuild.h"
#include "fsck/duplicate_pass.h"
#include "fsck/group_pass.h"
#include "fsck/inode_pass.h"
#include "fsck/journal_pass.h"
#include "fsck/link_pass.h"
#include "fsck/superblock_pass.h"
#include "fsck/system_pass.h"
#include "fsck/totals_pass.h"

namespace corral::fsck {

namespace {

class Check {
 public:
  Check(Executor& executor, Device& device, Findings& findings, CheckOptions& options, Logger log)
      : executor_(executor),
        device_(device),
        findings_(findings),
        options_(options),
        log_(std::move(log)),
        disk_(executor, device) {}

  Task<Result<CheckReport>> run();

 private:
  Task<Result<>> passes();
  Task<Result<>> passes_over_volume(Volume& volume, SystemRepairs repairs);
  Task<Result<>> commit();

  Executor& executor_;
  Device& device_;
  Findings& findings_;
  CheckOptions& options_;
  Logger log_;
  WorkingCopy disk_;
  std::optional<Volume> volume_;  ///< once there is a superblock
  CheckReport report_;
};

Task<Result<>> Check::passes_over_volume(Volume& volume, SystemRepairs repairs) {
  CO_TRY(repairs.index, co_await load_groups(volume));
  CO_TRY_VOID(co_await check_inodes(volume));
  CO_TRY_VOID(co_await ensure_top_directories(volume));
  CO_TRY_VOID(co_await rebuild_directories(volume));
  CO_TRY_VOID(co_await separate_duplicates(volume));
  CO_TRY_VOID(co_await check_directories(volume));
  CO_TRY_VOID(co_await check_system_files(volume, std::move(repairs)));
  CO_TRY_VOID(co_await check_cluster_area(volume));
  CO_TRY_VOID(co_await reconnect_orphans(volume));
  CO_TRY_VOID(co_await check_links(volume));
  CO_TRY_VOID(co_await check_groups(volume));
  CO_TRY_VOID(co_await check_statfs(volume));
  for (const InodeRecord& inode : volume.inodes.inodes())
    report_.inodes += inode.is(InodeRecord::kGone) ? 0 : 1;
  report_.directories = volume.inodes.directories().size();
  co_return Result<>{};
}

Task<Result<>> Check::passes() {
  CO_TRY(const ondisk::Superblock superblock, co_await check_superblock(disk_, findings_));
  CO_TRY(JournalOutcome journals,
         co_await replay_journals(executor_, disk_, options_.write ? &device_ : nullptr, findings_, log_));
  volume_.emplace(disk_, findings_, options_.progress ? options_.progress : [](auto, auto, auto) {}, superblock);
  report_.blocks = volume_->blocks;
  const bool at_ease = findings_.count() == 0 || journals.to_clear.empty();
  if (options_.only_journals && !journals.dirty && journals.usable && at_ease) co_return Result<>{};
  co_return co_await passes_over_volume(*volume_, {.index = {}, .journals_to_clear = std::move(journals.to_clear)});
}

/// First what is found by following pointers, then what follows from it.
Task<Result<>> Check::commit() {
  auto in_header = [this](std::uint64_t offset) {
    const std::vector<Group>& groups = volume_->map.groups();
    const BlockNo block(offset >> volume_->geometry.block_shift());
    auto behind = std::ranges::upper_bound(groups, block, {}, &Group::addr);
    return behind != groups.begin() && block < (behind - 1)->data0;
  };
  co_return co_await disk_.commit(in_header);
}

Task<Result<CheckReport>> Check::run() {
  Result<> done = co_await passes();
  if (!done && done.error().code() == ECANCELED) {
    report_.complete = false;
    done = {};
  }
  if (done && options_.write && volume_) done = co_await commit();
  co_await disk_.close();
  if (!done) co_return std::unexpected(done.error());
  report_.findings = findings_.count();
  report_.remaining = findings_.remaining();
  report_.bytes_read = disk_.bytes_read();
  co_return report_;
}

}  // namespace

Task<Result<CheckReport>> check_volume(Executor& executor, Device& device, Findings& findings, CheckOptions options,
                                       Logger log) {
  Check check(executor, device, findings, options, std::move(log));
  co_return co_await check.run();
}

}  // namespace corral::fsck
