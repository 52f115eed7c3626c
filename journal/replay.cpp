#include "journal/replay.h"

#include <array>
#include <chrono>
#include <cstring>

#include "base/aligned_buffer.h"
#include "base/planted_bug.h"
#include "journal/in_place_writer.h"
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

/// The dinode of a file that holds just a StatfsChange.
Task<Result<AlignedBuffer>> read_statfs(const ReplayJob& job, BlockNo place) {
  const Geometry& geometry = job.journal.geometry;
  CO_TRY_VOID(check_pointer(place, geometry.superblock(), "statfs file", geometry, job.volume_blocks));
  AlignedBuffer block(geometry.block_size(), false);
  CO_TRY_VOID(co_await job.journal.device.read(geometry.offset_bytes(place), block.span()));
  CO_TRY_VOID(check_dinode(block.span(), place, geometry));
  const auto& dinode = view<Dinode>(block.span());
  if (dinode.height != 0 || dinode.size < sizeof(StatfsChange))
    co_return fail_corrupt("inode {}: height {} and size {}, expected a statfs file", place.value,
                           dinode.height.value(), dinode.size.value());
  co_return block;
}

/// Adds the change that the head carries to the master file, and clears the local one.
///
/// The sum must be made exactly once, wherever the replay is cut off. So it goes through the log itself, as a
/// transaction with the new contents of both files. The header written before that drops everything old from the log
/// (all of it is in place and stable) but still carries the change; so there is room for the transaction however full
/// the log was.
Task<Result<>> settle_statfs(const ReplayJob& job, const LogHeaderExtras& change, LogEnd& end) {
  const JournalAccess& journal = job.journal;
  CO_TRY(AlignedBuffer master, co_await read_statfs(job, job.statfs.master));
  CO_TRY(AlignedBuffer local, co_await read_statfs(job, job.statfs.local));
  auto& sum = view<StatfsChange>(master.span(), sizeof(Dinode));
  sum.total = sum.total + static_cast<std::uint64_t>(change.local_total);
  sum.free = sum.free + static_cast<std::uint64_t>(change.local_free);
  sum.dinodes = sum.dinodes + static_cast<std::uint64_t>(change.local_dinodes);
  view<StatfsChange>(local.span(), sizeof(Dinode)) = {};

  CO_TRY_VOID(co_await write_header(job, end, end.block, kLogHeadRecovery, change));

  AlignedBuffer descriptor_block(journal.geometry.block_size());
  auto& descriptor = view<LogDescriptor>(descriptor_block.span());
  descriptor.header.set(MetaType::log_descriptor);
  descriptor.type = static_cast<std::uint32_t>(LogDescriptorType::metadata);
  descriptor.length = 3u;
  descriptor.data1 = 2u;
  auto numbers = pointers(descriptor_block.span(), sizeof(LogDescriptor));
  numbers[0] = job.statfs.master.value;
  numbers[1] = job.statfs.local.value;
  const std::uint32_t first = end.block;
  for (const AlignedBuffer* block : {&descriptor_block, &master, &local}) {
    CO_TRY_VOID(co_await journal.device.write(journal.offset_bytes(end.block), block->span(), WriteMode::cached));
    end.block = journal.forward(end.block, 1);
  }
  CO_TRY_VOID(co_await journal.device.flush());
  CO_TRY_VOID(co_await write_header(job, end, first, kLogHeadRecovery, {}));

  CO_TRY_VOID(co_await journal.device.write(journal.geometry.offset_bytes(job.statfs.master), master.span(),
                                            WriteMode::cached));
  CO_TRY_VOID(
      co_await journal.device.write(journal.geometry.offset_bytes(job.statfs.local), local.span(), WriteMode::cached));
  CO_TRY_VOID(co_await journal.device.flush());
  job.log.info("jid={}: Updated master statfs Total:{}, Free:{}, Dinodes:{} after change [{:+},{:+},{:+}]",
               job.id.value, static_cast<std::int64_t>(sum.total.value()), static_cast<std::int64_t>(sum.free.value()),
               static_cast<std::int64_t>(sum.dinodes.value()), change.local_total, change.local_free,
               change.local_dinodes);
  co_return Result<>();
}

bool has_statfs_change(const LogHeaderExtras& extras) {
  return extras.local_total != 0 || extras.local_free != 0 || extras.local_dinodes != 0;
}

Task<Result<>> write_volume(const ReplayJob& job, ReplayReport& report) {
  if (!planted(PlantedBug::replay_skips_blocks))
    CO_TRY_VOID(co_await write_in_place(job.journal, report.head.tail, report.plan.blocks));
  if (!planted(PlantedBug::replay_skips_flush)) CO_TRY_VOID(co_await job.journal.device.flush());
  LogEnd end{report.next_block, report.next_sequence};
  if (job.statfs.master && job.statfs.local && has_statfs_change(report.head.extras)) {
    Result<> settled = co_await settle_statfs(job, report.head.extras, end);
    if (!settled) {
      if (settled.error().kind() == ErrorKind::device) co_return settled;
      // The totals are only a figure for df; a damaged file of theirs is no reason to keep the volume from its users.
      job.log.warning("jid={}: Cannot update master statfs: {}", job.id.value, settled.error().describe());
    }
  }
  CO_TRY_VOID(co_await write_header(job, end, 0, kLogHeadUnmount | kLogHeadRecovery, {}));
  report.next_block = end.block;
  report.next_sequence = end.sequence;
  co_return Result<>();
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
  if (report.head.clean()) co_return report;

  job.log.info("jid={}: {} journal...{:#x} to {:#x}", id, job.dry_run ? "Would replay" : "Replaying", report.head.tail,
               report.head.block);
  const WritableBlocks writable(job.volume_blocks, job.journal.geometry, job.journals);
  CO_TRY(report.plan, co_await scan_log(job.journal, report.head, writable));
  const Time scanned = executor.now();
  report.times.scan = scanned - head_found;
  if (report.plan.unknown_descriptors > 0)
    job.log.warning("jid={}: Skipped {} log descriptors of unknown type", id, report.plan.unknown_descriptors);
  if (!job.dry_run) {
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
