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
                                            std::uint64_t minimum_bytes) {
  Volume& volume = impl_->volume;
  CO_TRY_VOID(volume.check_writable());
  const std::uint64_t granularity = volume.device.geometry().discard_granularity_bytes;
  if (granularity == 0) co_return fail(EOPNOTSUPP);
  const std::uint32_t shift = volume.geometry.block_shift();
  const std::uint64_t start = start_bytes >> shift;
  const std::uint64_t end = start + (length_bytes >> shift);
  const std::uint64_t least = std::max<std::uint64_t>(1, granularity >> shift);
  const std::uint64_t minimum = std::max(least, volume.geometry.blocks_for(minimum_bytes));
  const ResourceGroup& last = impl_->groups.at(impl_->groups.count() - 1);
  if (end <= start || start >= last.first_block().value + last.blocks()) co_return fail(EINVAL);

  std::uint64_t discarded_blocks = 0;
  for (std::size_t index = 0; index < impl_->groups.count(); ++index) {
    const ResourceGroup& group = impl_->groups.at(index);
    const std::uint64_t first = group.first_block().value;
    const std::uint64_t from = std::max(start, first);
    const std::uint64_t to = std::min(end, first + group.blocks());
    if (from >= to) continue;
    const BlockRun range{static_cast<std::uint32_t>(from - first), static_cast<std::uint32_t>(to - from)};
    CO_TRY(const std::uint64_t blocks, co_await impl_->trim_group(index, range, minimum, minimum == least));
    discarded_blocks += blocks;
  }
  co_return discarded_blocks << shift;
}

Task<Result<std::uint64_t>> Allocator::Impl::trim_group(std::size_t index, BlockRun range, std::uint64_t minimum_blocks,
                                                        bool thorough) {
  CO_TRY(const GroupUse use, co_await groups.use(index, 0));
  ResourceGroup& group = use.group();
  if ((group.header().flags & ondisk::kRgrpTrimmed) != 0) co_return std::uint64_t{0};
  const std::uint64_t frees = group.times_freed();
  bool all = thorough && range.length == group.blocks() && !group.awaits_commit();
  std::uint64_t discarded_blocks = 0;
  for (std::uint32_t at = range.first; at < range.end();) {
    BlockRun run = group.next_free_run(at);
    if (run.length == 0 || run.first >= range.end()) break;
    run.length = std::min(run.length, range.end() - run.first);
    at = run.end();
    if (run.length > group.available()) {
      all = false;  // promised to others, who must be able to take it now
      continue;
    }
    if (run.length < minimum_blocks) continue;
    group.hold(run);
    ++discards_running;
    const auto discarded = co_await discard_run(group, run);
    group.unhold(run);
    --discards_running;
    discards_done.notify_all();
    CO_TRY_VOID(discarded);
    discarded_blocks += run.length;
  }
  if (all) CO_TRY_VOID(co_await mark_trimmed(group, frees));
  co_return discarded_blocks;
}

Task<Result<>> Allocator::Impl::mark_trimmed(ResourceGroup& group, std::uint64_t frees) {
  CO_TRY(Transaction transaction, co_await volume.journal->begin({.blocks = 1}));
  if (group.times_freed() == frees) group.set_flag(transaction, ondisk::kRgrpTrimmed, true);
  co_return Result<>{};
}

}  // namespace corral
