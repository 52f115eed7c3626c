#include "fs/resource_group.h"

#include <algorithm>
#include <utility>

#include "base/planted_bug.h"
#include "ondisk/checksum.h"
#include "ondisk/validate.h"

namespace corral {

namespace {

Result<> check_header_type(std::span<const std::byte> bytes, BlockNo number, const ondisk::Geometry&) {
  return ondisk::check_meta_header(bytes, number, ondisk::MetaType::resource_group);
}

Result<> check_bitmap_type(std::span<const std::byte> bytes, BlockNo number, const ondisk::Geometry&) {
  return ondisk::check_meta_header(bytes, number, ondisk::MetaType::resource_group_bitmap);
}

const char* name_of(ondisk::BlockState state) {
  switch (state) {
    case ondisk::BlockState::free:
      return "free";
    case ondisk::BlockState::used:
      return "used";
    case ondisk::BlockState::unlinked:
      return "unlinked dinode";
    case ondisk::BlockState::dinode:
      return "dinode";
  }
  return "unknown";
}

}  // namespace

ResourceGroup::Loaded::~Loaded() {
  windows.clear_and_dispose([](AllocationWindow* window) { window->length = 0; });
}

ResourceGroup::ResourceGroup(const ondisk::ResourceGroupIndexEntry& entry)
    : address_(entry.addr),
      first_block_(entry.data0),
      blocks_(entry.data),
      length_(entry.length),
      last_free_(entry.data),
      last_dinodes_(entry.data) {}

std::uint32_t ResourceGroup::room_bound() const {
  return loaded_ ? available() : last_free_;
}

bool ResourceGroup::known_without_dinodes() const {
  return (loaded_ ? header().dinodes.value() : last_dinodes_) == 0;
}

std::uint32_t ResourceGroup::segment_bytes(std::uint32_t segment, const ondisk::Geometry& geometry) const {
  const std::uint32_t all = blocks_ / ondisk::kBlocksPerBitmapByte;
  const std::uint32_t first = geometry.rgrp_first_bitmap_bytes();
  const std::uint32_t next = geometry.rgrp_next_bitmap_bytes();
  if (segment == 0) return std::min(all, first);
  return std::min(all - first - (segment - 1) * next, next);
}

Task<Result<>> ResourceGroup::load(BlockCache& cache, BlockOwner& owner, std::uint32_t least_free) {
  auto result = co_await read(cache, owner, least_free);
  if (!result && result.error().kind() == ErrorKind::corrupt) damaged_ = true;
  co_return result;
}

Task<Result<>> ResourceGroup::read(BlockCache& cache, BlockOwner& owner, std::uint32_t least_free) {
  const ondisk::Geometry& geometry = cache.geometry();
  CO_TRY(BlockRef first, co_await cache.read(owner, address_, check_header_type));
  ondisk::ResourceGroupIndexEntry entry;
  entry.addr = address_.value;
  entry.length = length_;
  entry.data0 = first_block_.value;
  entry.data = blocks_;
  entry.bitmap_bytes = blocks_ / ondisk::kBlocksPerBitmapByte;
  CO_TRY_VOID(ondisk::check_rgrp(first->bytes(), entry));
  const auto& disk = first->as<ondisk::ResourceGroup>();
  last_free_ = disk.free;
  last_dinodes_ = disk.dinodes;
  no_allocate_ = (disk.flags & ondisk::kRgrpNoAllocate) != 0;
  if (last_free_ < least_free) co_return Result<>{};

  auto loaded = std::make_unique<Loaded>();
  loaded->blocks.reserve(length_);
  loaded->blocks.push_back(std::move(first));
  std::vector<BlockNo> rest;
  rest.reserve(length_ - 1);
  for (std::uint32_t i = 1; i < length_; ++i)
    rest.push_back(address_ + i);
  cache.read_ahead(owner, rest, check_bitmap_type);
  for (BlockNo block : rest) {
    CO_TRY(BlockRef bitmap, co_await cache.read(owner, block, check_bitmap_type));
    loaded->blocks.push_back(std::move(bitmap));
  }
  CO_TRY_VOID(count_blocks(*loaded, geometry));
  loaded_ = std::move(loaded);
  co_return Result<>{};
}

Result<> ResourceGroup::count_blocks(Loaded& loaded, const ondisk::Geometry& geometry) const {
  StateCounts sum;
  loaded.segments.resize(length_);
  std::uint32_t next = 0;
  for (std::uint32_t i = 0; i < length_; ++i) {
    Segment& segment = loaded.segments[i];
    const std::uint32_t bytes = segment_bytes(i, geometry);
    const StateCounts counts = BitmapView(loaded.blocks[i]->bytes().subspan(ondisk::bitmap_offset(i), bytes)).counts();
    segment.first = std::exchange(next, next + bytes * ondisk::kBlocksPerBitmapByte);
    segment.blocks = bytes * ondisk::kBlocksPerBitmapByte;
    segment.free = segment.longest = counts.free;
    segment.first_free = segment.first;
    sum.free += counts.free;
    sum.unlinked += counts.unlinked;
    sum.dinodes += counts.dinodes;
  }
  CHECK_INVARIANT(next == blocks_);
  const auto& disk = loaded.blocks.front()->as<ondisk::ResourceGroup>();
  if (disk.free != sum.free || disk.dinodes != sum.dinodes + sum.unlinked)
    return fail_corrupt(
        "resource group {}: the header counts {} free blocks and {} dinodes, the bitmap {} and {}; unmount and run "
        "fsck",
        address_.value, disk.free.value(), disk.dinodes.value(), sum.free, sum.dinodes + sum.unlinked);
  loaded.free = sum.free;
  loaded.unlinked = sum.unlinked;
  return {};
}

void ResourceGroup::unload() {
  CHECK_INVARIANT(loaded_ && loaded_->reserved == 0);
  last_free_ = header().free;
  last_dinodes_ = header().dinodes;
  loaded_.reset();
}

void ResourceGroup::forget() {
  CHECK_INVARIANT(reserved() == 0);
  ++times_forgotten_;
  loaded_.reset();
  last_free_ = blocks_;
  last_dinodes_ = blocks_;
  no_allocate_ = false;
}

bool ResourceGroup::idle() const {
  return loaded_->reserved == 0 && loaded_->freed.empty() && loaded_->windows.empty() &&
         std::ranges::all_of(loaded_->segments, [](const Segment& segment) { return segment.held.empty(); });
}

bool ResourceGroup::may_have_run(std::uint32_t length) const {
  if (length <= 1) return loaded_->free > 0;
  return std::ranges::any_of(loaded_->segments, [length](const Segment& s) { return s.longest >= length; });
}

void ResourceGroup::reserve(std::uint32_t count) {
  CHECK_INVARIANT(count <= available());
  loaded_->reserved += count;
}

void ResourceGroup::unreserve(std::uint32_t count) {
  CHECK_INVARIANT(count <= loaded_->reserved);
  loaded_->reserved -= count;
}

const ondisk::ResourceGroup& ResourceGroup::header() const {
  return loaded_->blocks.front()->as<ondisk::ResourceGroup>();
}

std::uint32_t ResourceGroup::bitmap_block_of(std::uint32_t index) const {
  CHECK_INVARIANT(index < blocks_);
  const auto& segments = loaded_->segments;
  if (index < segments.front().blocks) return 0;
  return 1 + (index - segments.front().blocks) / segments[1].blocks;
}

BitmapView ResourceGroup::view(std::uint32_t segment) const {
  const std::size_t bytes = loaded_->segments[segment].blocks / ondisk::kBlocksPerBitmapByte;
  return BitmapView(loaded_->blocks[segment]->bytes().subspan(ondisk::bitmap_offset(segment), bytes));
}

std::span<std::byte> ResourceGroup::modify_bitmap(Transaction& transaction, std::uint32_t segment) {
  const std::size_t bytes = loaded_->segments[segment].blocks / ondisk::kBlocksPerBitmapByte;
  return transaction.modify(*loaded_->blocks[segment]).subspan(ondisk::bitmap_offset(segment), bytes);
}

template <class Change>
void ResourceGroup::for_segments(BlockRun run, Change change) const {
  CHECK_INVARIANT(run.first < blocks_ && run.length <= blocks_ - run.first);
  for (std::uint32_t at = run.first; at < run.end();) {
    const std::uint32_t number = bitmap_block_of(at);
    Segment& segment = loaded_->segments[number];
    const std::uint32_t stop = std::min(run.end(), segment.end());
    change(number, segment, at - segment.first, stop - at);
    at = stop;
  }
}

const AllocationWindow* ResourceGroup::window_from(std::uint32_t index, const AllocationWindow* mine) const {
  const Windows& windows = loaded_->windows;
  const BlockNo block = block_at(index);
  auto at = windows.upper_bound(block, [](const auto& a, const auto& b) {
    if constexpr (std::is_same_v<std::decay_t<decltype(a)>, BlockNo>)
      return a < b.next;
    else
      return a.next < b;
  });
  if (at != windows.begin()) {
    auto before = std::prev(at);
    if (&*before != mine && block < before->next + before->length) return &*before;
  }
  if (at != windows.end() && &*at == mine) ++at;
  return at == windows.end() ? nullptr : &*at;
}

std::uint32_t ResourceGroup::run_length(std::uint32_t index, std::uint32_t limit, const AllocationWindow* mine,
                                        bool through_windows) const {
  std::uint32_t end = index + std::min(limit, blocks_ - index);
  if (!through_windows)
    if (const AllocationWindow* window = window_from(index, mine); window != nullptr)
      end = window->next <= block_at(index) ? index : std::min(end, index_of(window->next));
  std::uint32_t at = index;
  while (at < end) {
    const std::uint32_t number = bitmap_block_of(at);
    const Segment& segment = loaded_->segments[number];
    const std::uint32_t stop = std::min(end, segment.end());
    at = segment.first + view(number).find_taken(at - segment.first, stop - segment.first, segment.held);
    if (at < stop) break;
  }
  return at - index;
}

/// A run of `wanted` blocks in the segment at or after `from`, or else the longest. `cut` is set if windows were in the
/// way.
BlockRun ResourceGroup::search_segment(std::uint32_t number, std::uint32_t from, std::uint32_t wanted,
                                       const AllocationWindow* mine, bool through_windows, bool& cut) const {
  const Segment& segment = loaded_->segments[number];
  const BitmapView bitmap = view(number);
  BlockRun best;
  for (std::uint32_t at = from; at < segment.end() && best.length < wanted;) {
    const AllocationWindow* window = through_windows ? nullptr : window_from(at, mine);
    std::uint32_t stop = segment.end();
    std::uint32_t next = stop;
    if (window != nullptr && window->next < block_at(segment.end())) {
      cut = true;
      stop = window->next <= block_at(at) ? at : index_of(window->next);
      next = index_of(window->next) + window->length;
    }
    const BlockRun run = bitmap.find_run(at - segment.first, stop - segment.first, wanted, segment.held);
    if (run.length > best.length) best = {segment.first + run.first, run.length};
    at = next;
  }
  return best;
}

BlockRun ResourceGroup::find_run(std::uint32_t from, std::uint32_t wanted, const AllocationWindow* mine,
                                 bool through_windows) {
  if (from >= blocks_) from = 0;
  BlockRun best;
  const auto count = static_cast<std::uint32_t>(loaded_->segments.size());
  const std::uint32_t start = bitmap_block_of(from);
  for (std::uint32_t i = 0; i < count && best.length < wanted; ++i) {
    const std::uint32_t number = (start + i) % count;
    Segment& segment = loaded_->segments[number];
    const std::uint32_t target = std::min(wanted, segment.longest);  // no need to look for more
    if (target <= best.length) continue;
    // So that allocations with one goal do not pass over the same blocks again and again.
    segment.first_free = segment.first + view(number).find_free(segment.first_free - segment.first, segment.held);
    from = i == 0 ? std::max(from, segment.first_free) : segment.first_free;
    bool cut = false;
    BlockRun run = search_segment(number, from, target, mine, through_windows, cut);
    if (run.length < target) {
      if (from > segment.first_free)
        run = search_segment(number, segment.first_free, target, mine, through_windows, cut);
      if (!cut && run.length < target) segment.longest = run.length;
    }
    if (run.length < wanted && run.length > 0 && run.end() == segment.end())
      run.length = run_length(run.first, wanted, mine, through_windows);
    if (run.length > best.length) best = run;
  }
  return best;
}

void ResourceGroup::put_states(Transaction& transaction, BlockRun run, ondisk::BlockState state) {
  for_segments(run, [&](std::uint32_t number, Segment&, std::uint32_t first, std::uint32_t count) {
    set_states(modify_bitmap(transaction, number), first, count, state);
  });
}

/// The blocks are no longer among those that can be taken.
void ResourceGroup::subtract_free(BlockRun run) {
  for_segments(run, [](std::uint32_t, Segment& segment, std::uint32_t, std::uint32_t count) {
    CHECK_INVARIANT(segment.free >= count);
    segment.free -= count;
    segment.longest = std::min(segment.longest, segment.free);
  });
  loaded_->free -= run.length;
}

void ResourceGroup::add_free(BlockRun run) {
  for_segments(run, [](std::uint32_t, Segment& segment, std::uint32_t first, std::uint32_t count) {
    segment.free += count;
    segment.longest = segment.free;
    segment.first_free = std::min(segment.first_free, segment.first + first);
  });
  loaded_->free += run.length;
}

ondisk::ResourceGroup& ResourceGroup::modify_header(Transaction& transaction) {
  return transaction.modify_as<ondisk::ResourceGroup>(*loaded_->blocks.front());
}

/// The kernel fills in what older ones left 0, whenever it writes a header; rg_skip stays.
void ResourceGroup::seal_header(ondisk::ResourceGroup& header) const {
  header.data0 = first_block_.value;
  header.data = blocks_;
  header.bitmap_bytes = blocks_ / ondisk::kBlocksPerBitmapByte;
  header.crc = ondisk::rgrp_crc(header);
}

void ResourceGroup::take(Transaction& transaction, BlockRun run, ondisk::BlockState state,
                         const AllocationWindow* mine) {
  CHECK_INVARIANT(run.length > 0 && run.length <= loaded_->free);
  CHECK_INVARIANT(run_length(run.first, run.length, nullptr, true) == run.length);
  const bool dinode = state != ondisk::BlockState::used;
  CHECK_INVARIANT(!dinode || run.length == 1);
  while (const AllocationWindow* window = window_from(run.first, mine)) {
    if (window->next >= block_at(run.end())) break;
    auto& stolen = const_cast<AllocationWindow&>(*window);
    stolen.unlink();
    stolen.length = 0;
  }
  put_states(transaction, run, state);
  subtract_free(run);
  loaded_->rotor = run.end() < blocks_ ? run.end() : 0;
  if (state == ondisk::BlockState::unlinked) ++loaded_->unlinked;
  auto& disk = modify_header(transaction);
  disk.free = disk.free - run.length;
  if (dinode) disk.dinodes = disk.dinodes + 1;
  seal_header(disk);
}

std::uint64_t ResourceGroup::next_generation(Transaction& transaction) {
  auto& disk = modify_header(transaction);
  const std::uint64_t generation = disk.inode_generation == 0 ? 1 : disk.inode_generation.value();
  disk.inode_generation = generation + 1;
  seal_header(disk);
  return generation;
}

void ResourceGroup::set_aside(AllocationWindow& window, std::uint32_t length) {
  CHECK_INVARIANT(!window.is_linked() && contains(window.next) && length > 0);
  window.length = length;
  loaded_->windows.insert(window);
}

Result<> ResourceGroup::expect_states(BlockRun run, ondisk::BlockState state, const char* what) {
  for (std::uint32_t at = run.first; at < run.end(); ++at)
    if (state_of(at) != state) {
      damaged_ = true;
      return fail_corrupt("resource group {}: block {} {} is {} in the bitmap, expected {}; unmount and run fsck",
                          address_.value, block_at(at).value, what, name_of(state_of(at)), name_of(state));
    }
  return {};
}

Result<> ResourceGroup::give_back(Transaction& transaction, BlockRun run, std::uint64_t set) {
  bool all_used = true;
  for_segments(run, [&](std::uint32_t number, Segment&, std::uint32_t first, std::uint32_t count) {
    all_used = all_used && view(number).all_in(ondisk::BlockState::used, first, count);
  });
  if (!all_used) return expect_states(run, ondisk::BlockState::used, "to be freed");
  ++times_freed_;
  put_states(transaction, run, ondisk::BlockState::free);
  for_segments(run, [](std::uint32_t, Segment& segment, std::uint32_t first, std::uint32_t count) {
    segment.held.add(first, count, segment.blocks);
  });
  if (!loaded_->freed.empty() && loaded_->freed.back().set == set && loaded_->freed.back().run.end() == run.first)
    loaded_->freed.back().run.length += run.length;
  else
    loaded_->freed.push_back({set, run});
  auto& disk = modify_header(transaction);
  if (!planted(PlantedBug::stale_group_counts)) disk.free = disk.free + run.length;
  disk.flags = disk.flags & ~ondisk::kRgrpTrimmed;
  seal_header(disk);
  return {};
}

Result<> ResourceGroup::give_back_dinode(Transaction& transaction, std::uint32_t index, std::uint64_t set) {
  TRY_VOID(expect_states({index, 1}, ondisk::BlockState::unlinked, "to be freed"));
  if (header().dinodes == 0 || loaded_->unlinked == 0) {
    damaged_ = true;
    return fail_corrupt("resource group {}: block {} is a dinode, but the header counts none; unmount and run fsck",
                        address_.value, block_at(index).value);
  }
  put_states(transaction, {index, 1}, ondisk::BlockState::used);
  --loaded_->unlinked;
  auto& disk = modify_header(transaction);
  disk.dinodes = disk.dinodes - 1;
  return give_back(transaction, {index, 1}, set);
}

Result<> ResourceGroup::change_dinode(Transaction& transaction, std::uint32_t index, ondisk::BlockState from,
                                      ondisk::BlockState to) {
  TRY_VOID(expect_states({index, 1}, from, "whose links change"));
  put_states(transaction, {index, 1}, to);
  if (to == ondisk::BlockState::unlinked)
    ++loaded_->unlinked;
  else
    --loaded_->unlinked;
  return {};
}

void ResourceGroup::settle(std::uint64_t committed_set, std::vector<BlockRun>* keep) {
  while (!loaded_->freed.empty() && loaded_->freed.front().set <= committed_set) {
    const BlockRun run = loaded_->freed.front().run;
    loaded_->freed.pop_front();
    if (keep != nullptr)
      keep->push_back(run);
    else
      unhold(run);
  }
}

void ResourceGroup::hold(BlockRun run) {
  for_segments(run, [](std::uint32_t, Segment& segment, std::uint32_t first, std::uint32_t count) {
    segment.held.add(first, count, segment.blocks);
  });
  subtract_free(run);
}

void ResourceGroup::unhold(BlockRun run) {
  for_segments(run, [](std::uint32_t, Segment& segment, std::uint32_t first, std::uint32_t count) {
    segment.held.remove(first, count);
  });
  add_free(run);
}

ondisk::BlockState ResourceGroup::state_of(std::uint32_t index) const {
  const std::uint32_t number = bitmap_block_of(index);
  return view(number).at(index - loaded_->segments[number].first);
}

std::uint32_t ResourceGroup::find_state(ondisk::BlockState state, std::uint32_t from) const {
  for (std::uint32_t at = from; at < blocks_;) {
    const std::uint32_t number = bitmap_block_of(at);
    const Segment& segment = loaded_->segments[number];
    at = segment.first + view(number).find(state, at - segment.first);
    if (at < segment.end()) return at;
  }
  return blocks_;
}

BlockRun ResourceGroup::next_free_run(std::uint32_t from) const {
  for (std::uint32_t at = from; at < blocks_;) {
    const std::uint32_t number = bitmap_block_of(at);
    const Segment& segment = loaded_->segments[number];
    at = segment.first + view(number).find_free(at - segment.first, segment.held);
    if (at < segment.end())
      return {at, view(number).find_taken(at - segment.first, segment.blocks, segment.held) + segment.first - at};
  }
  return {};
}

void ResourceGroup::set_flag(Transaction& transaction, std::uint32_t flag, bool on) {
  auto& disk = modify_header(transaction);
  disk.flags = on ? disk.flags | flag : disk.flags & ~flag;
  seal_header(disk);
}

}  // namespace corral
