#include "fs/resource_groups.h"

#include <algorithm>
#include <cstring>

#include "fs/system_inode.h"
#include "ondisk/validate.h"

namespace corral {

namespace {
/// Share of the block cache's memory that groups out of use may keep, and how many are looked at to get below it.
constexpr std::uint64_t kLoadedShare = 8;
constexpr std::size_t kUnloadAttempts = 8;
}  // namespace

GroupUse::~GroupUse() {
  if (groups_ != nullptr) groups_->leave(index_);
}

ResourceGroup& GroupUse::group() const {
  return groups_->at(index_);
}

bool GroupUse::overdue() const {
  return groups_->slots_[index_].active->glock->overdue();
}

ResourceGroups::ResourceGroups(Volume& volume)
    : volume_(volume), refreshing_(volume.executor), changed_(volume.executor) {}

ResourceGroups::~ResourceGroups() {
  close();
}

void ResourceGroups::close() {
  unused_.clear();
  for (Slot& slot : slots_)
    CHECK_INVARIANT(slot.active == nullptr || slot.active->users == 0);
  slots_.clear();
  rindex_.reset();
}

Task<Result<>> ResourceGroups::open(MetadataTree& tree, InodeRef rindex) {
  tree_ = &tree;
  rindex_ = std::move(rindex);
  CO_TRY(LockedInode inode, co_await lock_system_inode(volume_, rindex_, GlockMode::shared));
  CO_TRY(const auto entries, co_await read_index(inode));
  CO_TRY_VOID(add(entries));
  co_return check_order();
}

Task<Result<std::vector<ondisk::ResourceGroupIndexEntry>>> ResourceGroups::read_index(const LockedInode& rindex) {
  using Entry = ondisk::ResourceGroupIndexEntry;
  const std::uint64_t size = rindex.size_bytes();
  if (size == 0 || size % sizeof(Entry) != 0)
    co_return fail_corrupt("rindex: {} bytes, expected a multiple of {}", size, sizeof(Entry));
  std::vector<Entry> entries;
  // Entries may straddle the pieces in which the file is read.
  std::vector<std::byte> carry;
  CO_TRY_VOID(co_await read_system_file(volume_, *tree_, rindex, [&](std::span<const std::byte> piece) -> Result<> {
    carry.insert(carry.end(), piece.begin(), piece.end());
    const std::size_t whole = carry.size() / sizeof(Entry) * sizeof(Entry);
    for (std::size_t at = 0; at < whole; at += sizeof(Entry))
      entries.push_back(ondisk::view<Entry>(carry, at));
    carry.erase(carry.begin(), carry.begin() + static_cast<std::ptrdiff_t>(whole));
    return {};
  }));
  co_return entries;
}

Result<> ResourceGroups::add(std::span<const ondisk::ResourceGroupIndexEntry> entries) {
  const std::uint64_t volume_blocks = volume_.device.geometry().size_bytes >> volume_.geometry.block_shift();
  for (const ondisk::ResourceGroupIndexEntry& entry : entries) {
    TRY_VOID(ondisk::check_rindex_entry(entry, slots_.size(), volume_.geometry, volume_blocks));
    slots_.push_back({ResourceGroup(entry), nullptr});
    total_blocks_ += entry.data;
  }
  return {};
}

Result<> ResourceGroups::check_order() const {
  auto by_address = [](const Slot& a, const Slot& b) { return a.group.address() < b.group.address(); };
  auto& slots = const_cast<std::deque<Slot>&>(slots_);
  if (!std::ranges::is_sorted(slots, by_address)) std::ranges::sort(slots, by_address);
  for (std::size_t i = 1; i < slots_.size(); ++i) {
    const ResourceGroup& before = slots_[i - 1].group;
    if (before.first_block() + before.blocks() > slots_[i].group.address())
      return fail_corrupt("rindex: resource groups {} and {} overlap", before.address().value,
                          slots_[i].group.address().value);
  }
  return {};
}

bool ResourceGroups::forget_index(BlockNo inode) {
  if (rindex_ == nullptr || rindex_->address() != inode) return false;
  index_stale_ = true;
  return true;
}

Task<Result<>> ResourceGroups::refresh() {
  if (!index_stale_) co_return Result<>{};
  const Mutex::Guard guard = co_await refreshing_.lock();
  if (!index_stale_) co_return Result<>{};
  CO_TRY(LockedInode inode, co_await lock_system_inode(volume_, rindex_, GlockMode::shared));
  co_return co_await refresh(inode);
}

/// The index only ever grows at its end, by groups behind all others, so numbers of groups stay what they are.
Task<Result<>> ResourceGroups::refresh(const LockedInode& rindex) {
  if (!index_stale_) co_return Result<>{};
  CO_TRY(const auto entries, co_await read_index(rindex));
  if (entries.size() < slots_.size())
    co_return fail_corrupt("rindex: {} entries, there were {}", entries.size(), slots_.size());
  const auto added = std::span(entries).subspan(slots_.size());
  if (!added.empty()) {
    CO_TRY_VOID(co_await volume_.device.refresh_size());
    const std::uint64_t end_bytes = volume_.geometry.offset_bytes(BlockNo(added.back().data0 + added.back().data));
    const std::uint64_t size_bytes = volume_.device.geometry().size_bytes;
    if (end_bytes > size_bytes)
      co_return fail_device(EIO,
                            "{}: the volume was grown to {} bytes, but here the device has {}: have this host look at "
                            "the disk's size again",
                            volume_.device.name(), end_bytes, size_bytes);
    const ResourceGroup& last = slots_.back().group;
    if (added.front().addr < (last.first_block() + last.blocks()).value)
      co_return fail_corrupt("rindex: resource group {} was added before the end of the volume",
                             added.front().addr.value());
    CO_TRY_VOID(add(added));
    CO_TRY_VOID(check_order());
    volume_.log.info("the volume has grown by {} resource groups", added.size());
  }
  index_stale_ = false;
  co_return Result<>{};
}

std::size_t ResourceGroups::find(BlockNo block) const {
  auto behind = std::ranges::upper_bound(slots_, block, {}, [](const Slot& slot) { return slot.group.address(); });
  if (behind == slots_.begin()) return slots_.size();
  const auto slot = std::prev(behind);
  return slot->group.contains(block) ? static_cast<std::size_t>(slot - slots_.begin()) : slots_.size();
}

Task<Result<GroupUse>> ResourceGroups::use(std::size_t index, std::uint32_t least_free, bool again) {
  Slot& slot = slots_[index];
  while (!again && slot.active != nullptr && slot.active->holder.held() && slot.active->glock->overdue())
    co_await changed_.wait();
  if (slot.active == nullptr) {
    slot.active = std::make_unique<Active>();
    slot.active->index = index;
    slot.active->glock = volume_.glocks.get(GlockType::resource_group, slot.group.address().value);
  } else if (slot.active->is_linked()) {
    unused_.erase(unused_.iterator_to(*slot.active));
  }
  ++slot.active->users;
  GroupUse use(this, index);
  if (!slot.active->holder.held() || !slot.group.loaded()) CO_TRY_VOID(co_await bring_up(index, least_free));
  if (slot.group.loaded()) settle(index);
  co_return use;
}

Task<Result<>> ResourceGroups::bring_up(std::size_t index, std::uint32_t least_free) {
  Slot& slot = slots_[index];
  while (slot.active->busy)
    co_await changed_.wait();
  if (slot.active->holder.held() && slot.group.loaded()) co_return Result<>{};
  slot.active->busy = true;
  Result<> result;
  if (!slot.active->holder.held()) {
    auto holder = co_await slot.active->glock->acquire(GlockMode::exclusive);
    if (holder)
      slot.active->holder = *std::move(holder);
    else
      result = std::unexpected(std::move(holder).error());
  }
  if (result && !slot.group.loaded()) {
    result = co_await slot.group.load(volume_.cache, slot.active->glock->blocks(), least_free);
    if (slot.group.loaded()) {
      loaded_bytes_ += bytes_of(slot.group);
      note_unlinked(slot.group);
    }
  }
  slot.active->busy = false;
  changed_.notify_all();
  co_return result;
}

void ResourceGroups::settle(std::size_t index) {
  ResourceGroup& group = slots_[index].group;
  if (!group.awaits_commit()) return;
  const std::uint64_t committed = volume_.journal->committed_set();
  std::vector<BlockRun> runs;
  group.settle(committed, on_settled ? &runs : nullptr);
  if (!group.awaits_commit()) awaiting_.erase(index);
  if (!runs.empty()) on_settled(index, std::move(runs));
}

void ResourceGroups::settle_all() {
  for (auto at = awaiting_.begin(); at != awaiting_.end();)
    settle(*at++);
}

void ResourceGroups::note_unlinked(const ResourceGroup& group) {
  if (!on_unlinked_found || group.unlinked_count() == 0) return;
  std::vector<BlockNo> found;
  for (std::uint32_t at = 0;; ++at) {
    at = group.find_state(ondisk::BlockState::unlinked, at);
    if (at >= group.blocks()) break;
    found.push_back(group.block_at(at));
  }
  on_unlinked_found(found);
}

void ResourceGroups::leave(std::size_t index) {
  Active& active = *slots_[index].active;
  CHECK_INVARIANT(active.users > 0);
  if (--active.users > 0) return;
  CHECK_INVARIANT(slots_[index].group.reserved() == 0);
  active.holder.release();
  changed_.notify_all();
  if (!slots_[index].group.loaded()) {
    slots_[index].active.reset();
    return;
  }
  unused_.push_back(active);
  const std::uint64_t limit = volume_.options.cache_bytes / kLoadedShare;
  if (loaded_bytes_ > limit) unload_beyond(limit);
}

void ResourceGroups::forget(BlockNo address) {
  auto place = std::ranges::lower_bound(slots_, address, {}, [](const Slot& slot) { return slot.group.address(); });
  if (place == slots_.end() || place->group.address() != address) return;
  CHECK_INVARIANT(place->active == nullptr || !place->active->holder.held());
  awaiting_.erase(static_cast<std::size_t>(place - slots_.begin()));
  if (place->group.loaded()) loaded_bytes_ -= bytes_of(place->group);
  place->group.forget();
  if (place->active == nullptr || place->active->users != 0) return;
  if (place->active->is_linked()) unused_.erase(unused_.iterator_to(*place->active));
  place->active.reset();
}

void ResourceGroups::unload_beyond(std::uint64_t limit_bytes) {
  auto at = unused_.begin();
  for (std::size_t i = 0; i < kUnloadAttempts && at != unused_.end() && loaded_bytes_ > limit_bytes; ++i) {
    Slot& slot = slots_[at->index];
    settle(at->index);
    if (!slot.group.idle()) {
      ++at;
      continue;
    }
    at = unused_.erase(at);
    slot.group.unload();
    loaded_bytes_ -= bytes_of(slot.group);
    slot.active.reset();
  }
}

void ResourceGroups::drop_unused() {
  // Each round passes over the groups that must stay.
  for (std::size_t left = unused_.size() / kUnloadAttempts + 1; left > 0; --left) {
    unload_beyond(0);
    // A list must not be spliced whole in front of its own end: Boost would lose all of it.
    if (unused_.size() > kUnloadAttempts)
      unused_.splice(unused_.end(), unused_, unused_.begin(), std::next(unused_.begin(), kUnloadAttempts));
  }
}

std::uint64_t ResourceGroups::bytes_of(const ResourceGroup& group) const {
  return std::uint64_t{group.length_blocks()} << volume_.geometry.block_shift();
}

}  // namespace corral
