#include "fs/allocator.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "base/planted_bug.h"
#include "fs/allocator_impl.h"

namespace corral {

namespace {

/// Requests of at least so many blocks look for a group where they are likely to get a good part of them in one run.
constexpr std::uint32_t kLargeRequest = 16;
constexpr std::uint32_t kGoodRun = 128;
/// A window is never larger, nor more than this share of its group's room.
constexpr std::uint64_t kWindowBytes = 32u << 20;
constexpr std::uint32_t kWindowShare = 4;
constexpr std::uint32_t kLeastWindow = 8;
/// A run at the goal is good enough if it holds this share of what is wanted.
constexpr std::uint32_t kGoalShare = 4;
/// How long allocations leave a group alone that the device could not read.
constexpr Duration kUnreadableFor = std::chrono::seconds(5);

template <class T>
bool is_no_space(const Result<T>& result) {
  return !result && result.error().code() == ENOSPC;
}

/// For a first pass: room for all that is wished, not too scattered.
bool is_roomy(const ResourceGroup& group, const AllotmentRequest& request) {
  const std::uint32_t wanted = request.blocks + request.wished;
  if (wanted < kLargeRequest) return true;
  return group.available() >= wanted && group.may_have_run(std::min(wanted, kGoodRun));
}

}  // namespace

Ownership ownership_of(const ondisk::Dinode& dinode) {
  return {dinode.uid, dinode.gid, (dinode.flags & ondisk::kDinodeSystem) == 0};
}

// Allotment

Allotment::Allotment() = default;
Allotment::Allotment(Allotment&&) noexcept = default;
Allotment& Allotment::operator=(Allotment&&) noexcept = default;
Allotment::~Allotment() = default;

Allotment::State::~State() {
  if (aside) take_from_aside();
  if (use.held()) use->unreserve(reserved);
}

std::uint32_t Allotment::log_blocks() const {
  return state_ ? state_->log_blocks : 0;
}

std::uint32_t Allotment::available() const {
  return state_ ? state_->reserved : 0;
}

Result<Extent> Allotment::take_blocks(Transaction& transaction, std::uint32_t wanted) {
  return take_blocks(transaction, wanted, state_ ? state_->request.owner : Ownership{});
}

Result<Extent> Allotment::take_blocks(Transaction& transaction, std::uint32_t wanted, Ownership owner) {
  CHECK_INVARIANT(wanted > 0);
  if (available() == 0) return fail(ENOSPC, "more blocks were taken than were allotted");
  AllocationWindow* window = state_->request.window;
  const BlockRun run = state_->choose(std::min(wanted, state_->reserved), window);
  TRY_VOID(state_->take(transaction, run, ondisk::BlockState::used, owner));
  if (window != nullptr) state_->move_window(*window, run);
  return Extent{state_->use->block_at(run.first), run.length};
}

Result<BlockNo> Allotment::set_dinode_aside() {
  CHECK_INVARIANT(available() > 0 && !state_->aside);
  const BlockRun run = state_->choose(1, nullptr);
  if (run.length == 0) return state_->none_found();
  ResourceGroup& group = state_->use.group();
  group.unreserve(1);
  --state_->reserved;
  group.hold(run);
  state_->aside = run;
  return group.block_at(run.first);
}

/// The block that was set aside can be taken again, by the allotment's owner.
void Allotment::State::take_from_aside() {
  use->unhold(*std::exchange(aside, std::nullopt));
  use->reserve(1);
  ++reserved;
}

Result<Allotment::NewDinode> Allotment::take_dinode(Transaction& transaction, ondisk::BlockState state) {
  CHECK_INVARIANT(state == ondisk::BlockState::dinode || state == ondisk::BlockState::unlinked);
  BlockRun run;
  if (state_ && state_->aside) {
    run = *state_->aside;
    state_->take_from_aside();
  } else {
    if (available() == 0) return fail(ENOSPC, "more blocks were taken than were allotted");
    run = state_->choose(1, nullptr);
  }
  TRY_VOID(state_->take(transaction, run, state, state_->request.owner));
  return NewDinode{state_->use->block_at(run.first), state_->use->next_generation(transaction)};
}

BlockRun Allotment::State::choose(std::uint32_t wanted, const AllocationWindow* window) {
  BlockRun run = choose(wanted, window, false);
  if (run.length == 0) run = choose(wanted, window, true);
  return run;
}

BlockRun Allotment::State::choose(std::uint32_t wanted, const AllocationWindow* window, bool through_windows) {
  ResourceGroup& group = use.group();
  std::uint32_t ahead = 0;
  if (window != nullptr && window->next.value != 0) {
    if (group.contains(window->next)) {
      const std::uint32_t next = group.index_of(window->next);
      const std::uint32_t length = group.run_length(next, wanted, window, through_windows);
      if (length > 0) return {next, length};
    }
    ahead = blocks_ahead(*window);
  }
  std::uint32_t from = group.rotor();
  if (group.contains(request.goal)) {
    // The goal may be the last block that the inode has: the one behind it is as good.
    from = group.index_of(request.goal);
    if (from + 1 < group.blocks() && group.state_of(from) != ondisk::BlockState::free) ++from;
    const std::uint32_t length = group.run_length(from, wanted, window, through_windows);
    if (length > 0 && length >= wanted / kGoalShare) return {from, length};
  }
  BlockRun run = group.find_run(from, wanted + ahead, window, through_windows);
  run.length = std::min(run.length, wanted);
  return run;
}

std::uint32_t Allotment::State::blocks_ahead(const AllocationWindow& window) const {
  const auto most = static_cast<std::uint32_t>(kWindowBytes >> impl.volume.geometry.block_shift());
  return std::min({std::max(window.grown, kLeastWindow), most, use->available() / kWindowShare});
}

void Allotment::State::move_window(AllocationWindow& window, BlockRun taken) {
  ResourceGroup& group = use.group();
  const bool grows_on = window.next.value != 0;
  window.grown += std::min(taken.length, std::numeric_limits<std::uint32_t>::max() - window.grown);
  if (window.next == group.block_at(taken.first) && window.length > taken.length) {
    window.next += taken.length;  // stays in front of the windows behind it
    window.length -= taken.length;
    return;
  }
  window.unlink();
  window.next = group.block_at(taken.end());
  window.length = 0;
  // A file that was written once may never grow; one that was written twice is likely to.
  if (!grows_on || taken.end() >= group.blocks()) return;
  const std::uint32_t free = group.run_length(taken.end(), blocks_ahead(window), &window, false);
  if (free > 0) group.set_aside(window, free);
}

std::unexpected<Error> Allotment::State::none_found() const {
  use->set_damaged();
  return fail_corrupt("resource group {}: no free block is found although some are counted; unmount and run fsck",
                      use->address().value);
}

Result<> Allotment::State::take(Transaction& transaction, BlockRun run, ondisk::BlockState state, Ownership owner) {
  ResourceGroup& group = use.group();
  if (run.length == 0) return none_found();
  for (std::uint32_t i = 0; i < run.length; ++i) {
    const BlockNo block = use->block_at(run.first + i);
    if (!impl.volume.cache.in_use(block)) continue;
    group.set_damaged();
    return fail_corrupt("resource group {}: block {} is marked free but in use; unmount and run fsck",
                        group.address().value, block.value);
  }
  promise.give_up(std::min<std::uint64_t>(run.length, promise.blocks()));
  TRY_VOID(impl.quota.charge(transaction, owner, run.length));
  group.unreserve(run.length);
  reserved -= run.length;
  group.take(transaction, run, state, request.window);
  impl.change_statfs(transaction, -std::int64_t{run.length}, state == ondisk::BlockState::used ? 0 : 1);
  return {};
}

// Release

Release::Release() = default;
Release::Release(Release&&) noexcept = default;
Release& Release::operator=(Release&&) noexcept = default;
Release::~Release() = default;

std::uint32_t Release::log_blocks() const {
  if (!state_) return 0;
  std::size_t blocks = StatfsCounters::kLogBlocks + state_->impl.quota.log_blocks();
  for (const auto& part : state_->parts)
    blocks += part.bitmap_blocks.size();
  return static_cast<std::uint32_t>(blocks);
}

const Release::State::Part* Release::State::part_of(BlockNo block) const {
  auto behind = std::ranges::upper_bound(parts, block, {}, [](const Part& part) { return part.use->address(); });
  if (behind == parts.begin()) return nullptr;
  const Part& part = *std::prev(behind);
  return part.use->contains(block) ? &part : nullptr;
}

bool Release::State::covers(const Part& part, BlockRun run) const {
  const std::uint32_t last = part.use->bitmap_block_of(run.end() - 1);
  for (std::uint32_t block = part.use->bitmap_block_of(run.first); block <= last; ++block)
    if (!std::ranges::binary_search(part.bitmap_blocks, block)) return false;
  return true;
}

bool Release::covers(BlockNo block) const {
  const State::Part* part = state_ ? state_->part_of(block) : nullptr;
  return part != nullptr && state_->covers(*part, {part->use->index_of(block), 1});
}

Release::State::Place Release::State::place_of(Extent extent) const {
  const Part* part = part_of(extent.start);
  CHECK_INVARIANT(part != nullptr && extent.length > 0);
  const BlockRun run{part->use->index_of(extent.start), extent.length};
  CHECK_INVARIANT(run.end() <= part->use->blocks() && covers(*part, run));
  return {part->use.group(), run};
}

void Release::State::note_freed(BlockNo block) {
  impl.groups.note_freed(part_of(block)->use.index());
}

Result<> Release::free_blocks(Transaction& transaction, Extent extent, Ownership owner) {
  const auto [group, run] = state_->place_of(extent);
  auto& impl = state_->impl;
  TRY_VOID(impl.quota.charge(transaction, owner, -std::int64_t{extent.length}));
  if (planted(PlantedBug::leaked_block) && extent.length % 3 == 1) return {};
  TRY_VOID(group.give_back(transaction, run, impl.volume.journal->running_set()));
  state_->note_freed(extent.start);
  if (!planted(PlantedBug::lost_statfs_change)) impl.change_statfs(transaction, extent.length, 0);
  return {};
}

Result<> Release::free_dinode(Transaction& transaction, BlockNo block, Ownership owner) {
  const auto [group, run] = state_->place_of({block, 1});
  auto& impl = state_->impl;
  TRY_VOID(impl.quota.charge(transaction, owner, -1));
  TRY_VOID(group.give_back_dinode(transaction, run.first, impl.volume.journal->running_set()));
  state_->note_freed(block);
  impl.change_statfs(transaction, 1, -1);
  return {};
}

Result<> Release::set_unlinked(Transaction& transaction, BlockNo block) {
  const auto [group, run] = state_->place_of({block, 1});
  return group.change_dinode(transaction, run.first, ondisk::BlockState::dinode, ondisk::BlockState::unlinked);
}

Result<> Release::set_linked(Transaction& transaction, BlockNo block) {
  const auto [group, run] = state_->place_of({block, 1});
  return group.change_dinode(transaction, run.first, ondisk::BlockState::unlinked, ondisk::BlockState::dinode);
}

// Allocator

Allocator::Impl::Impl(Allocator& owner, Volume& context)
    : self(owner),
      volume(context),
      tree(context, owner),
      groups(context),
      statfs(context),
      quota(context, owner, tree),
      discards_done(context.executor),
      work(context.executor),
      background(context.executor) {}

Allocator::Allocator(Volume& volume) : impl_(std::make_unique<Impl>(*this, volume)) {}
Allocator::~Allocator() = default;

Task<Result<>> Allocator::open(SystemFiles files) {
  CO_TRY_VOID(co_await impl_->groups.open(impl_->tree, std::move(files.rindex)));
  CO_TRY_VOID(co_await impl_->statfs.open(std::move(files.statfs), std::move(files.statfs_change)));
  CO_TRY_VOID(co_await impl_->quota.open(std::move(files.quota), std::move(files.quota_change)));
  impl_->groups.on_unlinked_found = [this](std::span<const BlockNo> found) {
    if (on_unlinked_found) on_unlinked_found(found);
  };
  if (impl_->volume.options.discard)
    impl_->groups.on_settled = [this](std::size_t index, std::vector<BlockRun> runs) {
      impl_->discard_later(index, std::move(runs));
    };
  impl_->background.spawn(impl_->run_worker());
  co_return Result<>{};
}

Task<void> Allocator::close() {
  impl_->closing = true;
  impl_->work.set();
  co_await impl_->background.join();
  impl_->quota.close();
  impl_->statfs.close();
  impl_->groups.close();
}

void Allocator::note_commit() {
  if (impl_->volume.options.discard) impl_->groups.settle_all();
}

Task<void> Allocator::forget(GlockName glock) {
  const BlockNo number(glock.number);
  if (glock.type == GlockType::resource_group) impl_->groups.forget(number);
  if (glock.type != GlockType::inode) co_return;
  impl_->quota.forget_records(number);
  if (!impl_->groups.forget_index(number)) co_return;
  impl_->work.set();
  // Where it fails, so does whatever needs what lies beyond; then there is something to say.
  static_cast<void>(co_await impl_->volume.device.refresh_size());
}

void Allocator::drop_unused() {
  impl_->groups.drop_unused();
}

Task<void> Allocator::Impl::run_worker() {
  while (!closing) {
    co_await work.wait();
    work.reset();
    if (statfs_sync_wanted && !closing) {
      // What failed here, or comes when the volume is about to be frozen, is tried again at the next sync; a failed
      // journal has been reported by itself.
      statfs_sync_wanted = false;
      if (const auto changing = volume.try_change()) static_cast<void>(co_await statfs.sync());
    }
    // Soon, so that the next change of the index is told to this node, too. A failure is met again by who needs it.
    if (!closing) static_cast<void>(co_await groups.refresh());
    co_await discard_queued();
  }
}

void Allocator::Impl::change_statfs(Transaction& transaction, std::int64_t free, std::int64_t dinodes) {
  statfs.change(transaction, free, dinodes);
  if (!statfs.beyond_percent(volume.options.statfs_percent)) return;
  statfs_sync_wanted = true;
  work.set();
}

Task<Result<Allotment>> Allocator::allot(AllotmentRequest request) {
  CO_TRY(Impl::Prepared prepared, co_await impl_->prepare(request, {}));
  co_return std::move(prepared.first);
}

Task<Result<std::pair<Allotment, Release>>> Allocator::allot_and_release(AllotmentRequest request,
                                                                         std::vector<BlockNo> blocks) {
  std::vector<Extent> extents;
  for (BlockNo block : blocks)
    extents.push_back({block, 1});
  co_return co_await impl_->prepare(request, std::move(extents));
}

Task<Result<Release>> Allocator::prepare_release(std::vector<BlockNo> blocks) {
  std::vector<Extent> extents;
  for (BlockNo block : blocks)
    extents.push_back({block, 1});
  co_return co_await prepare_release(std::move(extents));
}

Task<Result<Release>> Allocator::prepare_release(std::vector<Extent> extents) {
  CO_TRY_VOID(impl_->volume.check_writable());
  CO_TRY_VOID(co_await impl_->groups.refresh());
  CO_TRY(const auto sorted, impl_->sort_extents(extents));
  CO_TRY(QuotaTable::Room room, co_await impl_->quota.prepare());
  CO_TRY(Impl::Locked locked, co_await impl_->lock_groups(sorted, impl_->groups.count(), 0));
  Release release = impl_->make_release(std::move(locked.parts), sorted);
  release.state_->room = std::move(room);
  co_return release;
}

Result<std::vector<Allocator::Impl::GroupExtents>> Allocator::Impl::sort_extents(
    std::span<const Extent> extents) const {
  std::vector<GroupExtents> sorted;
  for (const Extent& extent : extents) {
    const std::size_t index = groups.find(extent.start);
    if (index == groups.count() || groups.find(extent.start + (extent.length - 1)) != index)
      return fail_corrupt("blocks {} to {}, to be freed, are not in a resource group", extent.start.value,
                          extent.start.value + extent.length - 1);
    auto place = std::ranges::lower_bound(sorted, index, {}, &GroupExtents::index);
    if (place == sorted.end() || place->index != index) place = sorted.insert(place, {index, {}});
    place->extents.push_back(extent);
  }
  return sorted;
}

Release Allocator::Impl::make_release(std::vector<Release::State::Part> parts, std::span<const GroupExtents> extents) {
  Release release;
  release.state_ = std::make_unique<Release::State>(*this);
  for (std::size_t i = 0; i < parts.size(); ++i) {
    auto& blocks = parts[i].bitmap_blocks;
    blocks.push_back(0);  // the header
    for (const Extent& extent : extents[i].extents) {
      const std::uint32_t first = parts[i].use->index_of(extent.start);
      const std::uint32_t last = parts[i].use->bitmap_block_of(first + extent.length - 1);
      for (std::uint32_t block = parts[i].use->bitmap_block_of(first); block <= last; ++block)
        if (blocks.back() != block) blocks.push_back(block);
    }
    std::ranges::sort(blocks);
    const auto repeated = std::ranges::unique(blocks);
    blocks.erase(repeated.begin(), repeated.end());
  }
  release.state_->parts = std::move(parts);
  return release;
}

/// `candidate` is an additional group to be tried for an allocation; groups.count() for none.
Task<Result<Allocator::Impl::Locked>> Allocator::Impl::lock_groups(std::span<const GroupExtents> extents,
                                                                   std::size_t candidate, std::uint32_t least_free) {
  Locked locked;
  bool wanted = candidate < groups.count();
  for (const GroupExtents& part : extents) {
    if (wanted && candidate <= part.index) {
      CO_TRY(locked.candidate, co_await use_candidate(candidate, least_free));
      wanted = false;
    }
    const bool again = locked.candidate.held() && locked.candidate.index() == part.index;
    CO_TRY(GroupUse use, co_await groups.use(part.index, 0, again));
    locked.parts.push_back({std::move(use), {}});
  }
  if (wanted) {
    CO_TRY(locked.candidate, co_await use_candidate(candidate, least_free));
  }
  co_return locked;
}

/// A group that the device cannot read is passed over for a while; a damaged one is an error, once.
Task<Result<GroupUse>> Allocator::Impl::use_candidate(std::size_t index, std::uint32_t least_free) {
  auto use = co_await groups.use(index, least_free);
  if (use || use.error().kind() != ErrorKind::device) co_return use;
  ResourceGroup& group = groups.at(index);
  group.set_unreadable(volume.clock.now() + kUnreadableFor);
  volume.log.warning("resource group {} is not used for allocation for {} s: {}", group.address().value,
                     kUnreadableFor / std::chrono::seconds(1), use.error().describe());
  co_return GroupUse();
}

std::size_t Allocator::Impl::first_candidate(const AllotmentRequest& request) {
  if (request.spread) return volume.random.below(groups.count());
  std::size_t index = groups.count();
  if (request.window != nullptr) index = groups.find(request.window->next);
  if (index == groups.count()) index = groups.find(request.goal);
  if (index < groups.count()) return index;
  if (!recent) {
    // Nodes begin in different places, so that they rarely meet: the golden ratio spreads any number of them.
    const std::uint64_t fraction = volume.journal->id().value * std::uint64_t{0x9E3779B9} % (1ull << 32);
    recent = static_cast<std::size_t>(fraction * groups.count() >> 32);
  }
  return *recent;
}

Task<Result<Allocator::Impl::Prepared>> Allocator::Impl::find_group(AllotmentRequest request,
                                                                    std::span<const GroupExtents> extents, bool picky) {
  const std::size_t start = first_candidate(request);
  for (std::size_t i = 0; i < groups.count(); ++i) {
    const std::size_t index = (start + i) % groups.count();
    ResourceGroup& group = groups.at(index);
    if (!group.may_allocate(volume.clock.now()) || group.room_bound() < request.blocks) continue;
    if (picky && group.loaded() && !is_roomy(group, request)) continue;
    CO_TRY(Locked locked, co_await lock_groups(extents, index, request.blocks));
    if (!locked.candidate.held() || !group.loaded() || !group.may_allocate(volume.clock.now())) continue;
    if (group.available() < request.blocks || (picky && !is_roomy(group, request))) continue;

    Prepared prepared;
    prepared.second = make_release(std::move(locked.parts), extents);
    auto state = std::make_unique<Allotment::State>(*this, request);
    state->reserved = request.blocks + std::min(request.wished, group.available() - request.blocks);
    group.reserve(state->reserved);
    state->use = std::move(locked.candidate);
    state->log_blocks =
        1 + std::min(state->reserved, group.length_blocks() - 1) + StatfsCounters::kLogBlocks + quota.log_blocks();
    prepared.first.state_ = std::move(state);
    if (!groups.at(index).contains(request.goal)) recent = index;
    co_return prepared;
  }
  co_return fail(ENOSPC);
}

Result<> Allocator::Impl::room_is_out_of_reach(std::uint32_t blocks) {
  for (std::size_t index = 0; index < groups.count(); ++index) {
    const ResourceGroup& group = groups.at(index);
    if (group.out_of_reach(volume.clock.now()) && group.room_bound() >= blocks)
      return fail_device(EIO, "{}: there is no space but in resource groups that cannot be used, {} among them",
                         volume.device.name(), group.address().value);
  }
  return {};
}

Task<Result<Allocator::Impl::Prepared>> Allocator::Impl::prepare(AllotmentRequest request,
                                                                 std::vector<Extent> extents) {
  CO_TRY_VOID(volume.check_writable());
  CO_TRY_VOID(co_await groups.refresh());
  CO_TRY(const auto sorted, sort_extents(extents));
  QuotaTable::Room room;
  QuotaTable::Room release_room;
  QuotaTable::Promise promise;
  // The quota file's own growth is charged to nobody and must not wait for a quota sync.
  if (request.owner.charged) {
    CO_TRY(room, co_await quota.prepare());
  }
  if (!extents.empty()) {
    CO_TRY(release_room, co_await quota.prepare());
  }
  if (!request.exempt_from_limits) {
    CO_TRY(promise, co_await quota.promise(request.owner, request.blocks, request.wished));
    request.wished =
        static_cast<std::uint32_t>(std::min<std::uint64_t>(request.wished, promise.blocks() - request.blocks));
  }
  auto prepared = co_await find_group(request, sorted, true);
  if (is_no_space(prepared)) prepared = co_await find_group(request, sorted, false);
  if (is_no_space(prepared)) {
    // What was freed can be used when that is committed (and discarded).
    CO_TRY_VOID(co_await volume.journal->flush());
    groups.settle_all();
    co_await discards_finished();
    prepared = co_await find_group(request, sorted, false);
  }
  // Inodes being freed may themselves wait for the sync that lets the quota file grow.
  if (is_no_space(prepared) && self.before_no_space && request.owner.charged && request.may_wait_for_frees) {
    co_await self.before_no_space();
    CO_TRY_VOID(co_await volume.journal->flush());
    groups.settle_all();
    co_await discards_finished();
    prepared = co_await find_group(request, sorted, false);
  }
  if (is_no_space(prepared)) CO_TRY_VOID(room_is_out_of_reach(request.blocks));
  if (!prepared) co_return prepared;
  prepared->first.state_->room = std::move(room);
  prepared->first.state_->promise = std::move(promise);
  prepared->second.state_->room = std::move(release_room);
  co_return prepared;
}

Task<Result<ondisk::BlockState>> Allocator::state_of(BlockNo block) {
  CO_TRY_VOID(co_await impl_->groups.refresh());
  const std::size_t index = impl_->groups.find(block);
  if (index == impl_->groups.count()) co_return fail(ESTALE, "block {} is in no resource group", block.value);
  CO_TRY(GroupUse use, co_await impl_->groups.use(index, 0));
  co_return use->state_of(use->index_of(block));
}

Task<Result<>> Allocator::for_each_unlinked(std::function<Task<Result<>>(BlockNo)> visit) {
  CO_TRY_VOID(co_await impl_->groups.refresh());
  for (std::size_t index = 0; index < impl_->groups.count(); ++index) {
    std::vector<BlockNo> found;
    {
      // Most groups of a large volume hold no dinodes: their headers say so.
      CO_TRY(GroupUse use, co_await impl_->groups.use(index, std::numeric_limits<std::uint32_t>::max()));
      if (use->known_without_dinodes()) continue;
      CO_TRY(GroupUse loaded, co_await impl_->groups.use(index, 0));
      for (std::uint32_t at = 0; at < loaded->blocks(); ++at) {
        at = loaded->find_state(ondisk::BlockState::unlinked, at);
        if (at < loaded->blocks()) found.push_back(loaded->block_at(at));
      }
    }
    for (BlockNo block : found)
      CO_TRY_VOID(co_await visit(block));
  }
  co_return Result<>{};
}

Task<Result<>> Allocator::check_quota(Ownership owner, std::uint64_t blocks) {
  CO_TRY_VOID(co_await impl_->quota.prepare());
  CO_TRY_VOID(co_await impl_->quota.promise(owner, blocks, 0));
  co_return Result<>{};
}

Task<Result<>> Allocator::transfer_quota(Transaction& transaction, Ownership from, Ownership to, std::uint64_t blocks) {
  co_return co_await impl_->quota.transfer(transaction, from, to, static_cast<std::int64_t>(blocks));
}

std::uint32_t Allocator::quota_log_blocks() const {
  return impl_->quota.log_blocks();
}

Task<Result<QuotaFigures>> Allocator::quota_of(QuotaKind kind, std::uint32_t id) {
  co_return co_await impl_->quota.figures({kind, id});
}

Task<Result<>> Allocator::set_quota_limits(QuotaKind kind, std::uint32_t id, std::optional<std::uint64_t> limit,
                                           std::optional<std::uint64_t> warn) {
  co_return co_await impl_->quota.set_limits({kind, id}, limit, warn);
}

Task<Result<std::vector<QuotaRecord>>> Allocator::quota_records() {
  co_return co_await impl_->quota.records();
}

Task<Result<>> Allocator::set_quota_usage(QuotaKind kind, std::uint32_t id, std::uint64_t blocks) {
  co_return co_await impl_->quota.set_usage({kind, id}, blocks);
}

Task<Result<SpaceFigures>> Allocator::figures() {
  co_return co_await impl_->statfs.figures();
}

Task<Result<>> Allocator::sync_statfs() {
  CO_TRY_VOID(impl_->volume.check_writable());
  co_return co_await impl_->statfs.sync();
}

Task<Result<>> Allocator::take_over_statfs(const LockedInode& left, JournalId of) {
  CO_TRY_VOID(impl_->volume.check_writable());
  co_return co_await impl_->statfs.take_over(left, of);
}

Task<Result<>> Allocator::sync_quota() {
  CO_TRY_VOID(impl_->volume.check_writable());
  co_return co_await impl_->quota.sync();
}

LogHeaderExtras Allocator::header_extras() const {
  LogHeaderExtras extras;
  impl_->statfs.add_to(extras);
  impl_->quota.add_to(extras);
  return extras;
}

}  // namespace corral
