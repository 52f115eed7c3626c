/// One resource group (struct gfs2_rgrp): its blocks' states and counts while its glock is held exclusively, finding
/// and marking free blocks, and what is known of it without reading.
///
/// Blocks are named by their index in the group's data area. A block can be taken if its state is free and it is not
/// held: held are blocks that were freed by a transaction which is not committed yet, and blocks being discarded.
/// Nothing here waits but load(); all changes of one call are in the caller's transaction. A disagreement between
/// header and bitmap, or a state that cannot be, gives a corrupt error that names group and block; such a group is
/// damaged from then on and not used for allocation any more.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include <boost/intrusive/list.hpp>

#include "base/clock.h"
#include "base/result.h"
#include "base/strong.h"
#include "base/task.h"
#include "fs/allocation_window.h"
#include "fs/bitmap.h"
#include "fs/glock.h"
#include "journal/journal.h"

namespace corral {

class ResourceGroup {
 public:
  /// `entry` was checked (ondisk::check_rindex_entry).
  explicit ResourceGroup(const ondisk::ResourceGroupIndexEntry& entry);

  BlockNo address() const { return address_; }             ///< of the header
  BlockNo first_block() const { return first_block_; }     ///< of the data area
  std::uint32_t blocks() const { return blocks_; }         ///< of the data area
  std::uint32_t length_blocks() const { return length_; }  ///< header and bitmaps
  bool contains(BlockNo block) const { return block >= first_block_ && block.value - first_block_.value < blocks_; }
  std::uint32_t index_of(BlockNo block) const { return static_cast<std::uint32_t>(block - first_block_); }
  BlockNo block_at(std::uint32_t index) const { return first_block_ + index; }

  /// False if the group must not be used for allocation now: NOALLOC flag, damaged, unreadable.
  bool may_allocate(Time now) const { return !no_allocate_ && !out_of_reach(now); }
  /// Damaged, or unreadable for the time being.
  bool out_of_reach(Time now) const { return damaged_ || now < unreadable_until_; }
  void set_damaged() { damaged_ = true; }
  /// The device could not read it; it may have been its way to the disk, and pass.
  void set_unreadable(Time until) { unreadable_until_ = until; }
  /// An upper bound of the blocks that an allotment can have here, as far as is known without reading.
  std::uint32_t room_bound() const;
  /// True if the group was looked at and had no dinodes (unlinked ones included).
  bool known_without_dinodes() const;

  // Loaded contents

  bool loaded() const { return loaded_ != nullptr; }
  /// Reads the header, and the bitmaps too if at least `least_free` blocks are free; loaded() tells. The group's glock
  /// is held exclusively from now until unload().
  Task<Result<>> load(BlockCache& cache, BlockOwner& owner, std::uint32_t least_free);
  /// Lets go of the cached blocks. Nothing may be reserved or held.
  void unload();
  /// The group's glock is given up to another node: everything that was known is forgotten, windows and blocks held for
  /// a commit (that has been made) or a discard (that is not) included. Nothing may be reserved.
  void forget();
  /// Counts calls of forget(), to notice them.
  std::uint64_t times_forgotten() const { return times_forgotten_; }
  /// True if unload() would lose nothing that matters: no window, no held blocks, nothing reserved.
  bool idle() const;

  /// Blocks that can be taken and are not promised to anybody.
  std::uint32_t available() const { return loaded_->free - loaded_->reserved; }
  /// False if it is known that no run of that many blocks can be found.
  bool may_have_run(std::uint32_t length) const;
  void reserve(std::uint32_t count);
  void unreserve(std::uint32_t count);
  std::uint32_t reserved() const { return loaded_ ? loaded_->reserved : 0; }

  /// Where an allocation without a goal goes on.
  std::uint32_t rotor() const { return loaded_->rotor; }
  /// Blocks from `index` on that can be taken, at most `limit`. `mine` may be null; other windows end the run unless
  /// `through_windows`.
  std::uint32_t run_length(std::uint32_t index, std::uint32_t limit, const AllocationWindow* mine,
                           bool through_windows) const;
  /// A run of `wanted` blocks at or after `from`, going on at the group's start; if there is none, the longest run that
  /// was seen. Empty only if no block at all can be taken.
  BlockRun find_run(std::uint32_t from, std::uint32_t wanted, const AllocationWindow* mine, bool through_windows);
  /// Marks a run used, or one block a dinode (or unlinked dinode). All of it can be taken; windows in its way other
  /// than `mine` are given up.
  void take(Transaction& transaction, BlockRun run, ondisk::BlockState state, const AllocationWindow* mine);
  /// rg_igeneration for a new dinode, moved along.
  std::uint64_t next_generation(Transaction& transaction);
  /// Sets a run of blocks that can be taken aside for the window, whose `next` lies at the run's start.
  void set_aside(AllocationWindow& window, std::uint32_t length);

  /// Used blocks become free; they are held until `set` (Journal::running_set) has committed.
  Result<> give_back(Transaction& transaction, BlockRun run, std::uint64_t set);
  /// An unlinked dinode becomes free, likewise.
  Result<> give_back_dinode(Transaction& transaction, std::uint32_t index, std::uint64_t set);
  /// A dinode changes between `dinode` and `unlinked`.
  Result<> change_dinode(Transaction& transaction, std::uint32_t index, ondisk::BlockState from, ondisk::BlockState to);

  /// Lets go of the blocks that were freed up to that set: they can be taken again. With `keep` they stay held and are
  /// added to it (to be discarded first, then let go with unhold).
  void settle(std::uint64_t committed_set, std::vector<BlockRun>* keep = nullptr);
  /// True while blocks are held for a commit.
  bool awaits_commit() const { return loaded_ && !loaded_->freed.empty(); }
  /// Counts calls that gave blocks back, to notice them.
  std::uint64_t times_freed() const { return times_freed_; }
  /// Blocks that can be taken are taken out of play for a while.
  void hold(BlockRun run);
  void unhold(BlockRun run);

  ondisk::BlockState state_of(std::uint32_t index) const;
  /// First block in that state at or after `from`; blocks() if there is none.
  std::uint32_t find_state(ondisk::BlockState state, std::uint32_t from) const;
  /// First run of blocks that can be taken at or after `from` (unlimited in length, not across bitmap blocks).
  BlockRun next_free_run(std::uint32_t from) const;
  std::uint32_t unlinked_count() const { return loaded_->unlinked; }
  const ondisk::ResourceGroup& header() const;
  void set_flag(Transaction& transaction, std::uint32_t flag, bool on);

  /// Which of the group's blocks holds the state of that block.
  std::uint32_t bitmap_block_of(std::uint32_t index) const;

 private:
  /// The part of the bitmap in one block.
  struct Segment {
    std::uint32_t first = 0;
    std::uint32_t blocks = 0;
    std::uint32_t free = 0;        ///< can be taken
    std::uint32_t longest = 0;     ///< no run within this segment is longer
    std::uint32_t first_free = 0;  ///< no block of this segment in front of it can be taken
    HeldBlocks held;
    std::uint32_t end() const { return first + blocks; }
  };
  struct Freed {
    std::uint64_t set;
    BlockRun run;
  };
  struct WindowOrder {
    bool operator()(const AllocationWindow& a, const AllocationWindow& b) const { return a.next < b.next; }
  };
  using Windows = boost::intrusive::set<AllocationWindow, boost::intrusive::constant_time_size<false>,
                                        boost::intrusive::compare<WindowOrder>>;
  struct Loaded {
    ~Loaded();
    std::vector<BlockRef> blocks;
    std::vector<Segment> segments;
    std::uint32_t free = 0;  ///< can be taken
    std::uint32_t reserved = 0;
    std::uint32_t unlinked = 0;
    std::uint32_t rotor = 0;
    std::deque<Freed> freed;
    Windows windows;
  };

  Task<Result<>> read(BlockCache& cache, BlockOwner& owner, std::uint32_t least_free);
  std::uint32_t segment_bytes(std::uint32_t segment, const ondisk::Geometry& geometry) const;
  Result<> count_blocks(Loaded& loaded, const ondisk::Geometry& geometry) const;
  BitmapView view(std::uint32_t segment) const;
  std::span<std::byte> modify_bitmap(Transaction& transaction, std::uint32_t segment);
  template <class Change>
  void for_segments(BlockRun run, Change change) const;
  /// The window that holds the block, or the next one behind it; null if there is none.
  const AllocationWindow* window_from(std::uint32_t index, const AllocationWindow* mine) const;
  BlockRun search_segment(std::uint32_t segment, std::uint32_t from, std::uint32_t wanted, const AllocationWindow* mine,
                          bool through_windows, bool& cut) const;
  void put_states(Transaction& transaction, BlockRun run, ondisk::BlockState state);
  void subtract_free(BlockRun run);
  void add_free(BlockRun run);
  Result<> expect_states(BlockRun run, ondisk::BlockState state, const char* what);
  ondisk::ResourceGroup& modify_header(Transaction& transaction);
  void seal_header(ondisk::ResourceGroup& header) const;

  BlockNo address_;
  BlockNo first_block_;
  std::uint32_t blocks_;
  std::uint32_t length_;
  std::uint32_t last_free_;     ///< as last seen; all blocks before the first look
  std::uint32_t last_dinodes_;  ///< likewise
  std::uint64_t times_freed_ = 0;
  std::uint64_t times_forgotten_ = 0;
  bool no_allocate_ = false;
  bool damaged_ = false;
  Time unreadable_until_{};
  std::unique_ptr<Loaded> loaded_;
};

}  // namespace corral
