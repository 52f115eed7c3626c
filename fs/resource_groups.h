/// All resource groups of the volume: the resource index, which group a block lies in, and having a group for use.
///
/// The node has a group while any of its requests uses it (GroupUse); the first one acquires the glock exclusively and
/// reads the group, later ones join, the last one releases the glock. Requests of one node need no protection from each
/// other: a group only changes between two awaits, and what was promised to one is reserved against the others. What
/// was read stays loaded, up to a share of the cache; groups that hold windows or uncommitted blocks always do.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include <boost/intrusive/list.hpp>

#include "base/result.h"
#include "base/sync.h"
#include "base/task.h"
#include "fs/metadata_tree.h"
#include "fs/resource_group.h"
#include "fs/volume.h"

namespace corral {

class ResourceGroups;

/// A resource group held exclusively by this node; movable, lets go when destroyed.
class [[nodiscard]] GroupUse {
 public:
  GroupUse() = default;
  GroupUse(GroupUse&& other) noexcept : groups_(std::exchange(other.groups_, nullptr)), index_(other.index_) {}
  GroupUse& operator=(GroupUse&& other) noexcept {
    std::swap(groups_, other.groups_);
    std::swap(index_, other.index_);
    return *this;
  }
  ~GroupUse();
  bool held() const { return groups_ != nullptr; }
  std::size_t index() const { return index_; }
  ResourceGroup& group() const;
  /// Other nodes have waited for the group long enough (Glock::overdue).
  bool overdue() const;
  ResourceGroup* operator->() const { return &group(); }

 private:
  friend class ResourceGroups;
  GroupUse(ResourceGroups* groups, std::size_t index) : groups_(groups), index_(index) {}
  ResourceGroups* groups_ = nullptr;
  std::size_t index_ = 0;
};

class ResourceGroups {
 public:
  explicit ResourceGroups(Volume& volume);
  ~ResourceGroups();

  /// Reads the resource index, checks every entry and that groups do not overlap. Reads no group.
  Task<Result<>> open(MetadataTree& tree, InodeRef rindex);
  /// Reads what another node has added to the index, if it may have: to be called before groups are looked for, with no
  /// group in use and no transaction begun. EIO where the device is smaller than what was added.
  Task<Result<>> refresh();
  /// The same for who holds the index exclusively, to add to it.
  Task<Result<>> refresh(const LockedInode& rindex);
  /// If that is the resource index's inode: another node may add to it from now on.
  bool forget_index(BlockNo inode);
  const InodeRef& index() const { return rindex_; }
  /// The index has these entries now, behind all others.
  Result<> add(std::span<const ondisk::ResourceGroupIndexEntry> entries);
  /// Lets go of every group. No GroupUse may be left.
  void close();

  /// Groups are numbered in order of address.
  std::size_t count() const { return slots_.size(); }
  ResourceGroup& at(std::size_t index) { return slots_[index].group; }
  /// Number of the group whose data area the block lies in; count() if there is none.
  std::size_t find(BlockNo block) const;
  std::uint64_t total_blocks() const { return total_blocks_; }

  /// Has the group for use; it is loaded, unless fewer than `least_free` blocks are free in it. Where other nodes have
  /// waited for it long enough, does not join those who use it but queues behind the others; `again`: the caller uses
  /// it already.
  Task<Result<GroupUse>> use(std::size_t index, std::uint32_t least_free, bool again = false);
  /// The glock of the group whose header is at `address` is given up to another node; the group is not in use.
  void forget(BlockNo address);
  /// Blocks of the group were freed; they can be used again when that has committed.
  void note_freed(std::size_t index) { awaiting_.insert(index); }
  /// True if some group may hold blocks whose freeing has not committed or was not noticed to have.
  bool awaits_commit() const { return !awaiting_.empty(); }
  /// Lets go of everything whose freeing has committed.
  void settle_all();
  /// Lets go of what is not in use, to give memory back.
  void drop_unused();

  /// If set, blocks whose freeing has committed are given to it instead of being usable again at once; it discards them
  /// and calls ResourceGroup::unhold.
  std::function<void(std::size_t index, std::vector<BlockRun> runs)> on_settled;
  /// See Allocator::on_unlinked_found.
  std::function<void(std::span<const BlockNo>)> on_unlinked_found;

 private:
  friend class GroupUse;
  /// A group's state beyond itself while it is in use or loaded.
  struct Active : boost::intrusive::list_base_hook<> {
    std::size_t index = 0;
    GlockRef glock;
    GlockHolder holder;
    std::uint32_t users = 0;
    bool busy = false;  ///< somebody acquires the glock or reads the group; others wait
  };
  struct Slot {
    ResourceGroup group;
    std::unique_ptr<Active> active;
  };

  Task<Result<std::vector<ondisk::ResourceGroupIndexEntry>>> read_index(const LockedInode& rindex);
  Result<> check_order() const;
  Task<Result<>> bring_up(std::size_t index, std::uint32_t least_free);
  void settle(std::size_t index);
  void note_unlinked(const ResourceGroup& group);
  void leave(std::size_t index);
  void unload_beyond(std::uint64_t limit_bytes);
  std::uint64_t bytes_of(const ResourceGroup& group) const;

  Volume& volume_;
  MetadataTree* tree_ = nullptr;
  InodeRef rindex_;
  bool index_stale_ = false;
  Mutex refreshing_;
  std::deque<Slot> slots_;  ///< which requests refer to while others are added
  std::uint64_t total_blocks_ = 0;
  std::uint64_t loaded_bytes_ = 0;
  boost::intrusive::list<Active> unused_;  ///< active, but without users; least recently used first
  std::set<std::size_t> awaiting_;         ///< groups with blocks held for a commit
  Signal changed_;
};

}  // namespace corral
