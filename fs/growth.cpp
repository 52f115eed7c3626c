/// Making a mounted volume larger: Allocator::grow.
#include <algorithm>
#include <cstring>

#include "base/aligned_buffer.h"
#include "fs/allocator_impl.h"
#include "fs/growth_plan.h"
#include "fs/system_inode.h"

namespace corral {

using ondisk::ResourceGroupIndexEntry;

namespace {

/// Of type nondisk, held exclusively by who grows the volume: two would write the same new groups, one of them over
/// what is in use already. The resource index's own glock is held only while entries are added, for the others must
/// have it to allocate.
constexpr std::uint64_t kGrowthGlock = 3;
/// Bounds a transaction: so many entries are 192 blocks of 512 bytes.
constexpr std::size_t kGroupsAtOnce = 1024;

constexpr std::uint64_t kEntryBytes = sizeof(ResourceGroupIndexEntry);

std::vector<ResourceGroupIndexEntry> entries_of(std::span<const PlannedGroup> groups) {
  std::vector<ResourceGroupIndexEntry> entries;
  for (const PlannedGroup& group : groups)
    entries.push_back(ondisk::index_entry(group.address, group.shape));
  return entries;
}

}  // namespace

GrowthPlan Allocator::Impl::plan() {
  const DeviceGeometry& device = volume.device.geometry();
  std::uint64_t usual = 0;
  for (std::size_t i = 0; i < groups.count(); ++i)
    usual = std::max(usual, std::uint64_t{groups.at(i).length_blocks()} + groups.at(i).blocks());
  const ResourceGroup& last = groups.at(groups.count() - 1);
  return plan_growth(volume.geometry,
                     ondisk::GroupAlignment::of_stripes(volume.geometry, device.minimum_io_bytes,
                                                        device.optimal_io_bytes, device.alignment_offset_bytes),
                     last.first_block() + last.blocks(), device.size_bytes >> volume.geometry.block_shift(), usual);
}

Task<Result<VolumeGrowth>> Allocator::grow(bool dry_run, std::stop_token stop) {
  Volume& volume = impl_->volume;
  CO_TRY(const GlockHolder changing, co_await volume.change());
  CO_TRY_VOID(co_await volume.device.refresh_size());
  const GlockRef glock = volume.glocks.get(GlockType::nondisk, kGrowthGlock);
  CO_TRY(const GlockHolder growing, co_await glock->acquire(GlockMode::exclusive));
  CO_TRY_VOID(co_await impl_->groups.refresh());
  const GrowthPlan plan = impl_->plan();
  VolumeGrowth growth{.groups = plan.groups.size(),
                      .blocks = plan.data_blocks(),
                      .total_blocks = impl_->groups.total_blocks() + plan.data_blocks(),
                      .spare_blocks = plan.spare_blocks};
  if (dry_run || plan.groups.empty()) co_return growth;
  for (std::size_t at = 0; at < plan.groups.size(); at += kGroupsAtOnce) {
    const auto some = std::span(plan.groups).subspan(at, std::min(kGroupsAtOnce, plan.groups.size() - at));
    CO_TRY_VOID(co_await impl_->write_groups(some, stop));
    CO_TRY_VOID(co_await impl_->add_to_index(entries_of(some)));
  }
  volume.log.info("the volume was grown by {} resource groups, {} blocks", growth.groups, growth.blocks);
  CO_TRY_VOID(co_await sync_statfs());
  co_return growth;
}

/// Past the cache, for nothing points there yet; stable when this returns.
Task<Result<>> Allocator::Impl::write_groups(std::span<const PlannedGroup> planned, std::stop_token stop) {
  const std::uint32_t block_size = volume.geometry.block_size();
  for (const PlannedGroup& group : planned) {
    if (stop.stop_requested()) co_return fail(ECANCELED, "{}: growing was stopped", volume.device.name());
    AlignedBuffer buffer(std::size_t{group.shape.length} * block_size);
    for (std::uint32_t i = 0; i < group.shape.length; ++i)
      ondisk::fill_group_block(buffer.span().subspan(std::size_t{i} * block_size, block_size), i, group.address,
                               group.shape, group.skip);
    CO_TRY_VOID(
        co_await volume.device.write(volume.geometry.offset_bytes(group.address), buffer.span(), WriteMode::cached));
  }
  co_return co_await volume.device.flush();
}

/// In one transaction with the totals.
Task<Result<>> Allocator::Impl::add_to_index(std::vector<ResourceGroupIndexEntry> entries) {
  CO_TRY(LockedInode inode, co_await lock_system_inode(volume, groups.index(), GlockMode::exclusive));
  // On its way to exclusive the glock may have been given up. Only who grows changes the index, so it is as it was.
  CO_TRY_VOID(co_await groups.refresh(inode));
  const auto added = std::as_bytes(std::span(entries));
  const std::uint64_t size = inode.size_bytes();
  if (size != groups.count() * kEntryBytes)
    co_return fail_corrupt("rindex: {} bytes, expected {} for {} resource groups", size, groups.count() * kEntryBytes,
                           groups.count());
  std::uint64_t blocks = 0;
  for (const ResourceGroupIndexEntry& entry : entries)
    blocks += entry.data;
  if (inode.is_stuffed() && size + added.size() > volume.geometry.stuffed_bytes())
    CO_TRY_VOID(co_await unstuff_index(inode));
  if (inode.is_stuffed()) {
    CO_TRY(Transaction transaction, co_await volume.journal->begin({.blocks = 1 + StatfsCounters::kLogBlocks}));
    std::ranges::copy(added, transaction.modify(inode.block()).subspan(sizeof(ondisk::Dinode) + size).begin());
    note_index_growth(transaction, inode, size + added.size(), blocks);
  } else {
    CO_TRY_VOID(co_await append_to_index(inode, added, blocks));
  }
  co_return groups.add(entries);
}

Task<Result<>> Allocator::Impl::unstuff_index(const LockedInode& inode) {
  CO_TRY(Allotment allotment, co_await self.allot({.goal = inode.address(), .blocks = 1, .owner = {.charged = false}}));
  CO_TRY(Transaction transaction, co_await volume.journal->begin({.blocks = allotment.log_blocks() + 2}));
  co_return co_await tree.unstuff(transaction, allotment, inode,
                                  [&](BlockNo block, std::span<const std::byte> contents) {
                                    BlockRef created = volume.cache.create(inode.owner(), block);
                                    std::ranges::copy(contents, transaction.modify_data(*created).begin());
                                  });
}

Task<Result<>> Allocator::Impl::append_to_index(const LockedInode& inode, std::span<const std::byte> added,
                                                std::uint64_t new_blocks) {
  const std::uint32_t shift = volume.geometry.block_shift();
  const std::uint64_t size = inode.size_bytes();
  const FileBlock first(size >> shift);
  const auto count = static_cast<std::uint32_t>(((size + added.size() - 1) >> shift) - first.value + 1);
  CO_TRY(const MetadataTree::Cost cost, co_await tree.allocation_cost(inode, first, count));
  Allotment allotment;
  if (cost.new_blocks > 0) {
    CO_TRY(allotment,
           co_await self.allot(
               {.goal = BlockNo(inode.dinode().goal_data), .blocks = cost.new_blocks, .owner = {.charged = false}}));
  }
  // The entries that are there already; so that no read can fail halfway through the transaction.
  std::vector<BlockRef> blocks(count);
  for (std::uint32_t i = 0; i < count; ++i) {
    CO_TRY(const MappedRun run, co_await tree.map(inode, first + i, 1));
    if (run.is_hole()) continue;
    CO_TRY(blocks[i], co_await volume.cache.read(inode.owner(), run.start, accept_data));
  }
  CO_TRY(Transaction transaction,
         co_await volume.journal->begin(
             {.blocks = cost.log_blocks + count + allotment.log_blocks() + 1 + StatfsCounters::kLogBlocks}));
  CO_TRY_VOID(co_await tree.allocate(transaction, allotment, inode, first, count, [&](FileBlock at, Extent extent) {
    for (std::uint32_t i = 0; i < extent.length; ++i) {
      BlockRef& block = blocks[at + i - first];
      block = volume.cache.create(inode.owner(), extent.start + i);
      std::ranges::fill(transaction.modify_data(*block), std::byte{0});
    }
  }));
  std::uint64_t at = size;
  while (!added.empty()) {
    const std::size_t within = at & (volume.geometry.block_size() - 1);
    const auto part = added.first(std::min<std::size_t>(added.size(), volume.geometry.block_size() - within));
    Block& block = *blocks[(at >> shift) - first.value];
    std::ranges::copy(part, transaction.modify_data(block).subspan(within).begin());
    at += part.size();
    added = added.subspan(part.size());
  }
  note_index_growth(transaction, inode, at, new_blocks);
  co_return Result<>{};
}

void Allocator::Impl::note_index_growth(Transaction& transaction, const LockedInode& inode, std::uint64_t size_bytes,
                                        std::uint64_t new_blocks) {
  auto& dinode = inode.modify(transaction);
  dinode.size = size_bytes;
  const WallTime now = volume.clock.wall();
  dinode.mtime = dinode.ctime = static_cast<std::uint64_t>(now.seconds);
  dinode.mtime_nanoseconds = dinode.ctime_nanoseconds = now.nanoseconds;
  statfs.grow(transaction, new_blocks);
}

}  // namespace corral
