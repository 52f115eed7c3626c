/// The inside of Allocator, shared by its source files alone.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <utility>
#include <vector>

#include "base/sync.h"
#include "fs/allocator.h"
#include "fs/growth_plan.h"
#include "fs/metadata_tree.h"
#include "fs/quota_table.h"
#include "fs/resource_groups.h"
#include "fs/statfs_counters.h"

namespace corral {

struct Allotment::State {
  State(Allocator::Impl& owner, AllotmentRequest asked) : impl(owner), request(asked) {}
  ~State();

  /// Where to take at most `wanted` blocks; empty if nothing can be taken. `window` may be null.
  BlockRun choose(std::uint32_t wanted, const AllocationWindow* window);
  BlockRun choose(std::uint32_t wanted, const AllocationWindow* window, bool through_windows);
  /// Blocks to set aside for a file that has grown by so many.
  std::uint32_t blocks_ahead(const AllocationWindow& window) const;
  void move_window(AllocationWindow& window, BlockRun taken);
  /// Takes a run that was chosen, in all books.
  Result<> take(Transaction& transaction, BlockRun run, ondisk::BlockState state, Ownership owner);

  std::unexpected<Error> none_found() const;
  void take_from_aside();

  Allocator::Impl& impl;
  AllotmentRequest request;
  GroupUse use;
  std::uint32_t reserved = 0;     ///< blocks of the group that may still be taken
  std::optional<BlockRun> aside;  ///< held in the group for a dinode
  std::uint32_t log_blocks = 0;
  QuotaTable::Room room;
  QuotaTable::Promise promise;
};

struct Release::State {
  /// A group that blocks are given back to.
  struct Part {
    GroupUse use;
    std::vector<std::uint32_t> bitmap_blocks;  ///< those that may change, by number within the group, ascending
  };
  explicit State(Allocator::Impl& owner) : impl(owner) {}

  const Part* part_of(BlockNo block) const;
  bool covers(const Part& part, BlockRun run) const;
  /// The group of an extent that is covered.
  struct Place {
    ResourceGroup& group;
    BlockRun run;
  };
  Place place_of(Extent extent) const;
  void note_freed(BlockNo block);

  Allocator::Impl& impl;
  std::vector<Part> parts;  ///< in order of address
  QuotaTable::Room room;
};

struct Allocator::Impl {
  Impl(Allocator& owner, Volume& context);

  /// Extents to be given back to one group.
  struct GroupExtents {
    std::size_t index = 0;
    std::vector<Extent> extents;
  };
  using Prepared = std::pair<Allotment, Release>;

  // allocator.cpp
  Task<Result<Prepared>> prepare(AllotmentRequest request, std::vector<Extent> extents);
  Result<std::vector<GroupExtents>> sort_extents(std::span<const Extent> extents) const;
  Task<Result<Prepared>> find_group(AllotmentRequest request, std::span<const GroupExtents> extents, bool picky);
  /// EIO if the room that is wanted may be in groups that are damaged or cannot be read: the volume is not full.
  Result<> room_is_out_of_reach(std::uint32_t blocks);
  struct Locked {
    std::vector<Release::State::Part> parts;
    GroupUse candidate;  ///< not held if the group cannot be read
  };
  Task<Result<Locked>> lock_groups(std::span<const GroupExtents> extents, std::size_t candidate,
                                   std::uint32_t least_free);
  Task<Result<GroupUse>> use_candidate(std::size_t index, std::uint32_t least_free);
  Release make_release(std::vector<Release::State::Part> parts, std::span<const GroupExtents> extents);
  std::size_t first_candidate(const AllotmentRequest& request);
  void change_statfs(Transaction& transaction, std::int64_t free, std::int64_t dinodes);
  Task<void> run_worker();

  // discard.cpp
  struct Discard {
    std::size_t group;
    std::vector<BlockRun> runs;     ///< held in the group
    std::uint64_t times_forgotten;  ///< of the group; if it has changed, the blocks may be another node's
  };
  void discard_later(std::size_t index, std::vector<BlockRun> runs);
  Task<void> discard_queued();
  Task<Result<>> discard_run(ResourceGroup& group, BlockRun run);
  Task<void> discards_finished();
  /// What is trimmed of a group.
  struct Trim {
    BlockRun range;
    std::uint64_t minimum_blocks;
    bool thorough;  ///< every free block of the range that can be discarded is
    std::stop_token stop;
  };
  Task<Result<std::uint64_t>> trim_group(std::size_t index, Trim what);
  Task<Result<>> discard_held(ResourceGroup& group, BlockRun run);
  Task<Result<>> mark_trimmed(ResourceGroup& group, std::uint64_t frees);

  // growth.cpp
  GrowthPlan plan();
  Task<Result<>> write_groups(std::span<const PlannedGroup> planned, std::stop_token stop);
  Task<Result<>> add_to_index(std::vector<ondisk::ResourceGroupIndexEntry> entries);
  Task<Result<>> unstuff_index(const LockedInode& inode);
  Task<Result<>> append_to_index(const LockedInode& inode, std::span<const std::byte> added, std::uint64_t new_blocks);
  void note_index_growth(Transaction& transaction, const LockedInode& inode, std::uint64_t size_bytes,
                         std::uint64_t new_blocks);

  Allocator& self;
  Volume& volume;
  MetadataTree tree;
  ResourceGroups groups;
  StatfsCounters statfs;
  QuotaTable quota;
  std::optional<std::size_t> recent;  ///< group of the last allotment without a goal

  bool closing = false;
  bool statfs_sync_wanted = false;
  bool discarding = true;  ///< -o discard, until the device refuses
  std::deque<Discard> discards;
  std::uint32_t discards_running = 0;
  Signal discards_done;
  Event work;  ///< for the worker: one of the above
  Scope background;
};

}  // namespace corral
