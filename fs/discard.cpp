/// Telling the device about free blocks: FITRIM, and -o discard after every commit. Blocks are held (out of play) while
/// a discard of them is under way, for what is written to them meanwhile could be lost.
#include <algorithm>

#include "fs/allocator_impl.h"

namespace corral {

void Allocator::Impl::discard_later(std::size_t index, std::vector<BlockRun> runs) {
  discards.push_back({index, std::move(runs), groups.at(index).times_forgotten()});
  work.set();
}

Task<Result<>> Allocator::Impl::discard_run(ResourceGroup& group, BlockRun run) {
  const ondisk::Geometry& geometry = volume.geometry;
  co_return co_await volume.device.discard(geometry.offset_bytes(group.block_at(run.first)),
                                           geometry.offset_bytes(BlockNo(run.length)));
}

Task<void> Allocator::Impl::discard_queued() {
  while (!discards.empty()) {
    const Discard next = std::move(discards.front());
    discards.pop_front();
    ++discards_running;
    const auto use = co_await groups.use(next.group, 0);
    ResourceGroup& group = groups.at(next.group);
    for (const BlockRun run : next.runs) {
      if (group.times_forgotten() != next.times_forgotten) break;
      if (use && discarding) {
        const auto discarded = co_await discard_run(group, run);
        if (!discarded) {
          discarding = false;
          volume.log.warning("the device refuses to discard, turning discards off: {}", discarded.error().describe());
        }
      }
      group.unhold(run);
    }
    --discards_running;
    discards_done.notify_all();
  }
}

Task<void> Allocator::Impl::discards_finished() {
  while (discards_running != 0 || !discards.empty())
    co_await discards_done.wait();
}

Task<Result<std::uint64_t>> Allocator::trim(std::uint64_t start_bytes, std::uint64_t length_bytes,
                                            std::uint64_t minimum_bytes, std::stop_token stop) {
  Volume& volume = impl_->volume;
  CO_TRY_VOID(volume.check_writable());
  CO_TRY_VOID(co_await impl_->groups.refresh());
  const std::uint64_t granularity = volume.device.geometry().discard_granularity_bytes;
  if (granularity == 0) co_return fail(EOPNOTSUPP, "{}: the device cannot discard", volume.device.name());
  const std::uint32_t shift = volume.geometry.block_shift();
  const std::uint64_t start = start_bytes >> shift;
  const std::uint64_t end = start + (length_bytes >> shift);
  const std::uint64_t least = std::max<std::uint64_t>(1, granularity >> shift);
  const std::uint64_t minimum = std::max(least, volume.geometry.blocks_for(minimum_bytes));
  const ResourceGroup& last = impl_->groups.at(impl_->groups.count() - 1);
  if (end <= start || start >= last.first_block().value + last.blocks())
    co_return fail(EINVAL, "{}: the range to be trimmed has no block of the volume in it", volume.device.name());

  std::uint64_t discarded_blocks = 0;
  for (std::size_t index = 0; index < impl_->groups.count(); ++index) {
    const ResourceGroup& group = impl_->groups.at(index);
    const std::uint64_t first = group.first_block().value;
    const std::uint64_t from = std::max(start, first);
    const std::uint64_t to = std::min(end, first + group.blocks());
    if (from >= to) continue;
    const BlockRun range{static_cast<std::uint32_t>(from - first), static_cast<std::uint32_t>(to - from)};
    CO_TRY(const std::uint64_t blocks,
           co_await impl_->trim_group(
               index, {.range = range, .minimum_blocks = minimum, .thorough = minimum == least, .stop = stop}));
    discarded_blocks += blocks;
  }
  co_return discarded_blocks << shift;
}

Task<Result<std::uint64_t>> Allocator::Impl::trim_group(std::size_t index, Trim what) {
  if (what.stop.stop_requested()) co_return fail(ECANCELED, "{}: trimming was stopped", volume.device.name());
  CO_TRY(GroupUse use, co_await groups.use(index, 0));
  ResourceGroup& group = use.group();
  if ((group.header().flags & ondisk::kRgrpTrimmed) != 0) co_return std::uint64_t{0};
  const std::uint64_t frees = group.times_freed();
  bool all = what.thorough && what.range.length == group.blocks() && !group.awaits_commit();
  std::uint64_t discarded_blocks = 0;
  for (std::uint32_t at = what.range.first; at < what.range.end();) {
    BlockRun run = group.next_free_run(at);
    if (run.length == 0 || run.first >= what.range.end()) break;
    run.length = std::min(run.length, what.range.end() - run.first);
    at = run.end();
    if (run.length > group.available()) {
      all = false;  // promised to others, who must be able to take it now
      continue;
    }
    if (run.length < what.minimum_blocks) continue;
    CO_TRY_VOID(co_await discard_held(group, run));
    discarded_blocks += run.length;
    if (what.stop.stop_requested()) co_return fail(ECANCELED, "{}: trimming was stopped", volume.device.name());
    if (!use.overdue()) continue;
    // A device takes its time for many extents. What the others free meanwhile is not seen here.
    all = false;
    use = GroupUse();
    CO_TRY(use, co_await groups.use(index, 0));
  }
  if (all) CO_TRY_VOID(co_await mark_trimmed(group, frees));
  co_return discarded_blocks;
}

/// The blocks are out of play meanwhile; the caller uses the group.
Task<Result<>> Allocator::Impl::discard_held(ResourceGroup& group, BlockRun run) {
  group.hold(run);
  ++discards_running;
  Result<> discarded = co_await discard_run(group, run);
  group.unhold(run);
  --discards_running;
  discards_done.notify_all();
  if (!discarded && discarded.error().code() == EOPNOTSUPP)
    co_return fail(EOPNOTSUPP, "{}: the device cannot discard", volume.device.name());
  co_return discarded;
}

/// Only a hint, not worth waiting for the end of a freeze with the group held.
Task<Result<>> Allocator::Impl::mark_trimmed(ResourceGroup& group, std::uint64_t frees) {
  const auto changing = volume.try_change();
  if (!changing) co_return Result<>{};
  CO_TRY(Transaction transaction, co_await volume.journal->begin({.blocks = 1}));
  if (group.times_freed() == frees) group.set_flag(transaction, ondisk::kRgrpTrimmed, true);
  co_return Result<>{};
}

}  // namespace corral
