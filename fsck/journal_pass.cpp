#include "fsck/journal_pass.h"

#include <algorithm>

#include "journal/log_format.h"
#include "journal/replay.h"
#include "offline/journals.h"
#include "offline/totals.h"
#include "ondisk/checksum.h"
#include "ondisk/validate.h"

namespace corral::fsck {

using namespace ondisk;

namespace {

constexpr std::uint32_t kBlocksAtATime = 64;

/// A log header that somebody damaged: the log itself never leaves one with a wrong hash, not even when a write was cut
/// off, for the hashed part lies within one sector.
Task<Result<std::optional<std::uint32_t>>> damaged_header(WorkingCopy& disk, const Geometry& geometry,
                                                          const JournalMap& map) {
  std::vector<std::byte> bytes(std::size_t{kBlocksAtATime} * geometry.block_size());
  for (std::uint32_t first = 0; first < map.size_blocks();) {
    const JournalMap::Run run = map.run_at(first);
    const std::uint32_t count = std::min(run.length, kBlocksAtATime);
    const std::span<std::byte> part(bytes.data(), std::size_t{count} * geometry.block_size());
    CO_TRY_VOID(co_await disk.fetch(geometry.offset_bytes(run.start), part));
    for (std::uint32_t i = 0; i < count; ++i) {
      const auto block = part.subspan(std::size_t{i} * geometry.block_size(), geometry.block_size());
      if (!has_meta_type(block, MetaType::log_header)) continue;
      const auto& header = view<LogHeader>(block);
      if (header.hash != log_header_hash(header) || header.block_number != first + i) co_return first + i;
    }
    first += count;
  }
  co_return std::nullopt;
}

class JournalPass {
 public:
  JournalPass(Executor& executor, WorkingCopy& disk, Device* device, Findings& findings, Logger log)
      : executor_(executor), disk_(disk), device_(device), findings_(findings), log_(std::move(log)) {}
  Task<Result<JournalOutcome>> run();

 private:
  Task<Result<ReplayReport>> replay(const OfflineJournal& journal, Device& device, bool dry_run);
  Task<Result<>> look_at(const OfflineJournal& journal);
  Task<Result<>> replay_dirty(const OfflineJournal& journal, const ReplayReport& report);
  Task<Result<>> settle();

  Executor& executor_;
  WorkingCopy& disk_;
  Device* device_;
  Findings& findings_;
  Logger log_;
  std::optional<VolumeReader> reader_;
  std::vector<JournalMap> maps_;
  JournalOutcome outcome_;
  bool replayed_ = false;
};

Task<Result<ReplayReport>> JournalPass::replay(const OfflineJournal& journal, Device& device, bool dry_run) {
  NullLogSink nobody;
  ReplayJob job{.journal = {executor_, device, reader_->geometry(), journal.map},
                .id = journal.id,
                .inode = journal.inode,
                .volume_blocks = reader_->volume_blocks(),
                .journals = maps_,
                .local_statfs = journal.local_statfs,
                .dry_run = dry_run,
                .log = dry_run ? Logger(nobody) : log_};
  co_return co_await replay_journal(std::move(job));
}

Task<Result<>> JournalPass::replay_dirty(const OfflineJournal& journal, const ReplayReport& report) {
  outcome_.dirty = true;
  const bool accepted = findings_.add({Kind::journal, journal.inode,
                                       fmt::format("journal {} is dirty: {} blocks and {} revokes", journal.id.value,
                                                   report.plan.blocks.size(), report.plan.revokes),
                                       "replay it"});
  if (!accepted) co_return Result<>{};
  if (device_ != nullptr) CO_TRY_VOID(co_await disk_.commit([](std::uint64_t) { return false; }));
  Device& target = device_ != nullptr ? *device_ : disk_;
  CO_TRY_VOID(co_await replay(journal, target, false));
  replayed_ = true;
  // The device was written behind the working copy's back.
  if (device_ != nullptr) disk_.drop_changes();
  co_return Result<>{};
}

/// As after every replay of all journals. Where one was left dirty or is damaged, the pass over the totals has its say.
Task<Result<>> JournalPass::settle() {
  Device& target = device_ != nullptr ? *device_ : disk_;
  CO_TRY(const VolumeReader volume, co_await VolumeReader::open(target));
  Result<> settled = co_await settle_totals(executor_, volume, log_);
  if (device_ != nullptr) disk_.drop_changes();
  if (!settled && settled.error().kind() == ErrorKind::device) co_return settled;
  co_return Result<>{};
}

Task<Result<>> JournalPass::look_at(const OfflineJournal& journal) {
  auto report = co_await replay(journal, disk_, true);
  std::string problem;
  if (!report) {
    if (report.error().kind() == ErrorKind::device) co_return std::unexpected(report.error());
    problem = report.error().describe();
  } else if (!report->head.found) {
    problem = fmt::format("journal {}: holds no log header", journal.id.value);
  } else if (!report->head.clean()) {
    co_return co_await replay_dirty(journal, *report);
  } else {
    CO_TRY(const auto damaged, co_await damaged_header(disk_, reader_->geometry(), journal.map));
    if (damaged)
      problem = fmt::format("journal {}: the log header in its block {} is damaged", journal.id.value, *damaged);
  }
  if (!problem.empty() && findings_.add({Kind::journal, journal.inode, problem,
                                         report ? "clear the journal, which holds nothing to replay"
                                                : "clear the journal; changes that are only there are lost"}))
    outcome_.to_clear.insert(journal.inode);
  co_return Result<>{};
}

Task<Result<JournalOutcome>> JournalPass::run() {
  CO_TRY(reader_, co_await VolumeReader::open(disk_));
  CO_TRY(const std::vector<OfflineJournal> journals, co_await find_sound_journals(*reader_, outcome_.usable));
  maps_ = maps_of(journals);
  for (const OfflineJournal& journal : journals)
    CO_TRY_VOID(co_await look_at(journal));
  if (replayed_) CO_TRY_VOID(co_await settle());
  co_return std::move(outcome_);
}

}  // namespace

Task<Result<JournalOutcome>> replay_journals(Executor& executor, WorkingCopy& disk, Device* device, Findings& findings,
                                             Logger log) {
  JournalPass pass(executor, disk, device, findings, std::move(log));
  co_return co_await pass.run();
}

Task<Result<>> clear_journal(Volume& volume, const VolumeReader& reader, BlockNo inode, JournalId id,
                             BlockNo local_statfs, BlockNo local_quota) {
  CO_TRY(const OfflineInode file, co_await reader.read_inode(inode));
  CO_TRY(const JournalMap map, co_await map_journal(reader, file));
  for (std::uint32_t i = 0; i < map.size_blocks(); ++i) {
    LogHeaderFields fields;
    fields.journal = id;
    fields.journal_inode = inode;
    fields.sequence = i;
    fields.flags = kLogHeadUnmount | kLogHeadUserspace;
    fields.tail = i;
    fields.block = i;
    fields.extras.statfs_inode = local_statfs;
    fields.extras.quota_inode = local_quota;
    const AlignedBuffer block = encode_log_header(volume.geometry, map, fields);
    volume.write(map.block_at(i), block.span());
  }
  co_return Result<>{};
}

}  // namespace corral::fsck
