#include "offline/offline_transaction.h"

#include <utility>
#include <vector>

#include "journal/log_format.h"
#include "offline/journals.h"

namespace corral {

using namespace ondisk;

Task<Result<std::span<std::byte>>> OfflineTransaction::change(BlockNo block) {
  auto found = blocks_.find(block);
  if (found == blocks_.end()) {
    CO_TRY(AlignedBuffer bytes, co_await volume_.read_block(block));
    found = blocks_.emplace(block, std::move(bytes)).first;
  }
  co_return found->second.span();
}

namespace {

/// What a look at each journal finds, all being clean; EBUSY where one is not.
Task<Result<std::vector<OfflineReplay>>> look_at_clean_journals(Executor& executor, const VolumeReader& volume) {
  NullLogSink sink;
  CO_TRY(auto looks, co_await replay_offline(executor, volume, {.dry_run = true, .only = {}}, Logger(sink)));
  for (const OfflineReplay& look : looks) {
    if (!look.report.head.clean())
      co_return fail(EBUSY,
                     "{}: journal {} is dirty: a node uses the volume or died using it; unmount it everywhere, or run "
                     "corral replay if no node has it mounted",
                     volume.device().name(), look.journal.id.value);
  }
  co_return looks;
}

}  // namespace

Task<Result<>> check_journals_clean(Executor& executor, const VolumeReader& volume) {
  CO_TRY_VOID(co_await look_at_clean_journals(executor, volume));
  co_return Result<>{};
}

Task<Result<>> OfflineTransaction::commit(Executor& executor, WallTime now, Logger log) {
  CO_TRY(const auto looks, co_await look_at_clean_journals(executor, volume_));
  if (looks.empty()) co_return fail(ENOENT, "{}: the volume has no journal", volume_.device().name());
  const Geometry& geometry = volume_.geometry();
  Device& device = volume_.device();
  const JournalId first(0);
  const OfflineJournal& journal = looks.front().journal;
  const ReplayReport& report = looks.front().report;
  const JournalMap& map = journal.map;

  AlignedBuffer descriptor(geometry.block_size());
  auto& fields = view<LogDescriptor>(descriptor.span());
  fields.header.set(MetaType::log_descriptor);
  fields.type = static_cast<std::uint32_t>(LogDescriptorType::metadata);
  fields.length = static_cast<std::uint32_t>(blocks_.size() + 1);
  fields.data1 = static_cast<std::uint32_t>(blocks_.size());
  auto numbers = pointers(descriptor.span(), sizeof(LogDescriptor));
  if (blocks_.size() > numbers.size())
    co_return fail(EFBIG, "{} blocks are too many to change at once", blocks_.size());
  std::uint32_t position = report.next_block;
  auto next_place = [&] {
    const std::uint64_t offset = geometry.offset_bytes(map.block_at(position));
    position = (position + 1) % map.size_blocks();
    return offset;
  };
  std::size_t index = 0;
  for (const auto& [number, bytes] : blocks_)
    numbers[index++] = number.value;
  CO_TRY_VOID(co_await device.write(next_place(), descriptor.span(), WriteMode::cached));
  for (const auto& [number, bytes] : blocks_)
    CO_TRY_VOID(co_await device.write(next_place(), bytes.span(), WriteMode::cached));
  CO_TRY_VOID(co_await device.flush());

  // What the node had counted is not said again: it may be among the changes.
  const AlignedBuffer header = encode_log_header(geometry, map,
                                                 {.journal = first,
                                                  .journal_inode = journal.inode,
                                                  .sequence = report.next_sequence,
                                                  .flags = kLogHeadFlushNormal | kLogHeadUserspace,
                                                  .tail = report.next_block,
                                                  .block = position,
                                                  .time = now,
                                                  .extras = {}});
  // With this header the changes are made, whatever happens.
  CO_TRY_VOID(co_await device.write(next_place(), header.span(), WriteMode::write_through));
  CO_TRY_VOID(co_await replay_offline(executor, volume_, {.dry_run = false, .only = first}, log));
  co_return Result<>{};
}

}  // namespace corral
