#include "journal/replay.h"

#include <array>
#include <chrono>
#include <optional>
#include <utility>

#include "base/aligned_buffer.h"
#include "base/planted_bug.h"
#include "journal/in_place_writer.h"
#include "ondisk/statfs_file.h"
#include "ondisk/validate.h"

namespace corral {

using namespace ondisk;

namespace {

/// More than a replay writes behind the head; real journals have at least 2048 blocks.
constexpr std::uint32_t kSmallestJournalBlocks = 16;

/// Where the next header goes.
struct LogEnd {
  std::uint32_t block;
  std::uint64_t sequence;
};

Task<Result<>> write_header(const ReplayJob& job, LogEnd& end, std::uint32_t tail, std::uint32_t flags,
                            LogHeaderExtras extras) {
  const AlignedBuffer header = encode_log_header(job.journal.geometry, job.journal.map,
                                                 {.journal = job.id,
                                                  .journal_inode = job.inode,
                                                  .sequence = end.sequence,
                                                  .flags = flags,
                                                  .tail = tail,
                                                  .block = end.block,
                                                  .time = job.journal.executor.clock().wall(),
                                                  .extras = extras});
  CO_TRY_VOID(
      co_await job.journal.device.write(job.journal.offset_bytes(end.block), header.span(), WriteMode::write_through));
  end.block = job.journal.forward(end.block, 1);
  ++end.sequence;
  co_return Result<>();
}

/// The node's statfs file; none where it is damaged, which whoever opens it tells.
Task<Result<std::optional<AlignedBuffer>>> read_local_statfs(const ReplayJob& job) {
  const Geometry& geometry = job.journal.geometry;
  if (!check_pointer(job.local_statfs, geometry.superblock(), "statfs file", geometry, job.volume_blocks))
    co_return std::nullopt;
  AlignedBuffer block(geometry.block_size(), false);
  CO_TRY_VOID(co_await job.journal.device.read(geometry.offset_bytes(job.local_statfs), block.span()));
  if (!check_statfs_file(block.span(), job.local_statfs, geometry)) co_return std::nullopt;
  co_return std::move(block);
}

/// What the node had counted stands in its file, and in every header: the kernel's replay believes the header. Where a
/// part of the log was skipped that may have held the file, the header alone tells.
Task<Result<>> believe_head(const ReplayJob& job, const LogHeaderExtras& head) {
  if (!head.statfs_inode || head.statfs_inode != job.local_statfs) co_return Result<>();
  CO_TRY(std::optional<AlignedBuffer> local, co_await read_local_statfs(job));
  if (!local) co_return Result<>();
  auto& counts = view<StatfsChange>(local->span(), sizeof(Dinode));
  const auto total = static_cast<std::uint64_t>(head.local_total);
  const auto free = static_cast<std::uint64_t>(head.local_free);
  const auto dinodes = static_cast<std::uint64_t>(head.local_dinodes);
  if (counts.total == total && counts.free == free && counts.dinodes == dinodes) co_return Result<>();
  counts.total = total;
  counts.free = free;
  counts.dinodes = dinodes;
  co_return co_await job.journal.device.write(job.journal.geometry.offset_bytes(job.local_statfs),
                                              std::as_const(*local).span(), WriteMode::cached);
}

Task<Result<LogHeaderExtras>> local_change(const ReplayJob& job) {
  LogHeaderExtras extras;
  CO_TRY(const std::optional<AlignedBuffer> local, co_await read_local_statfs(job));
  if (!local) co_return extras;
  const auto& counts = view<StatfsChange>(local->span(), sizeof(Dinode));
  extras.statfs_inode = job.local_statfs;
  extras.local_total = static_cast<std::int64_t>(counts.total.value());
  extras.local_free = static_cast<std::int64_t>(counts.free.value());
  extras.local_dinodes = static_cast<std::int64_t>(counts.dinodes.value());
  co_return extras;
}

/// The header behind everything that was found, which leaves the log empty.
Task<Result<>> end_log(const ReplayJob& job, ReplayReport& report) {
  LogEnd end{report.next_block, report.next_sequence};
  if (job.afterwards != JournalUse::none) {
    CO_TRY(const LogHeaderExtras extras, co_await local_change(job));
    CO_TRY_VOID(co_await write_header(job, end, end.block, kLogHeadRecovery, extras));
  } else {
    CO_TRY_VOID(co_await write_header(job, end, 0, kLogHeadUnmount | kLogHeadRecovery, {}));
  }
  report.next_block = end.block;
  report.next_sequence = end.sequence;
  co_return Result<>();
}

Task<Result<>> write_volume(const ReplayJob& job, ReplayReport& report) {
  if (!planted(PlantedBug::replay_skips_blocks))
    CO_TRY_VOID(co_await write_in_place(job.journal, report.head.tail, report.plan.blocks));
  if (report.plan.unknown_descriptors > 0) CO_TRY_VOID(co_await believe_head(job, report.head.extras));
  if (!planted(PlantedBug::replay_skips_flush)) CO_TRY_VOID(co_await job.journal.device.flush());
  co_return co_await end_log(job, report);
}

std::int64_t milliseconds(Duration duration) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(duration).count();
}

Task<Result<ReplayReport>> look_and_replay(const ReplayJob& job) {
  const Executor& executor = job.journal.executor;
  const std::uint32_t id = job.id.value;
  ReplayReport report;
  const Time begin = executor.now();
  job.log.info("jid={}: Looking at journal...", id);
  CO_TRY(report.head, co_await find_head(job.journal));
  const Time head_found = executor.now();
  report.times.head = head_found - begin;
  report.next_block = job.journal.forward(report.head.block, 1);
  report.next_sequence = report.head.sequence + 1;
  job.log.info("jid={}: Journal head lookup took {} ms", id, milliseconds(report.times.head));
  if (!report.head.found) job.log.warning("jid={}: The journal holds no log header; it is taken for empty", id);
  if (report.head.clean()) {
    if (job.afterwards == JournalUse::always && !job.dry_run) CO_TRY_VOID(co_await end_log(job, report));
    co_return report;
  }

  job.log.info("jid={}: {} journal...{:#x} to {:#x}", id, job.dry_run ? "Would replay" : "Replaying", report.head.tail,
               report.head.block);
  const WritableBlocks writable(job.volume_blocks, job.journal.geometry, job.journals);
  CO_TRY(report.plan, co_await scan_log(job.journal, report.head, writable));
  const Time scanned = executor.now();
  report.times.scan = scanned - head_found;
  if (report.plan.unknown_descriptors > 0)
    job.log.warning("jid={}: Skipped {} log descriptors of unknown type", id, report.plan.unknown_descriptors);
  if (!job.dry_run) {
    if (job.before_writing) CO_TRY_VOID(co_await job.before_writing());
    CO_TRY_VOID(co_await write_volume(job, report));
    report.replayed = true;
    report.times.write = executor.now() - scanned;
  }
  job.log.info("jid={}: {} {} of {} blocks", id, job.dry_run ? "Would replay" : "Replayed", report.plan.replayed_blocks,
               report.plan.blocks.size());
  job.log.info("jid={}: Found {} revoke tags", id, report.plan.revokes);
  if (report.replayed)
    job.log.info("jid={}: Journal replayed in {} ms [head: {} ms, scan: {} ms, write: {} ms]", id,
                 milliseconds(report.times.total()), milliseconds(report.times.head), milliseconds(report.times.scan),
                 milliseconds(report.times.write));
  co_return report;
}

}  // namespace

Task<Result<ReplayReport>> replay_journal(ReplayJob job) {
  if (job.journal.map.size_blocks() < kSmallestJournalBlocks)
    co_return fail_corrupt("journal {}: {} blocks long, expected at least {}", job.id.value,
                           job.journal.map.size_blocks(), kSmallestJournalBlocks);
  Result<ReplayReport> report = co_await look_and_replay(job);
  if (report) {
    job.log.info("jid={}: Done", job.id.value);
    co_return report;
  }
  job.log.error("jid={}: Failed: {}", job.id.value, report.error().describe());
  co_return std::unexpected(report.error().within(fmt::format("journal {}", job.id.value)));
}

}  // namespace corral
