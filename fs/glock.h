/// Glocks: the locks under which everything on the volume is read, cached and changed. Types and numbers are GFS2's.
///
/// A holder has the glock shared (read, cache) or exclusive (change); deferred is shared for O_DIRECT I/O that bypasses
/// caches. Requests are granted in order of arrival; compatible ones together. What was read under a glock (its
/// BlockOwner) stays cached after the last holder has gone.
///
/// Above the holders stands the node's own mode, which the LockSpace granted. It is kept after the last holder has
/// gone, until other nodes want it (LockClient::blocked). Then the glock comes down: no sooner than a hold time after
/// it was granted if it is in use, no later than its holders have gone; requests that come after the hold time wait
/// until it was given up and granted anew. So neither the node's own requests nor other nodes starve. Coming down from
/// exclusive, all that was changed under the glock is written to its place and no log entry of it is left alive, for
/// another node will change it (GlockKeeper::write); coming down from shared, all that is cached under it is forgotten
/// (GlockKeeper::forget, BlockCache::release).
///
/// Order, to be free of deadlock: directories before what they contain (two directories: an ancestor first, else by
/// block number), inodes of one kind by block number, then resource groups by block number, then quota. A transaction
/// is begun only when all glocks it needs are held: a glock that comes down needs a commit, and a commit waits for open
/// transactions. docs/LOCKING.md has the table.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include <boost/intrusive/list.hpp>
#include <boost/smart_ptr/intrusive_ptr.hpp>

#include "base/result.h"
#include "base/sync.h"
#include "base/task.h"
#include "fs/lock_space.h"
#include "journal/block_cache.h"

namespace corral {

class GlockTable;
class Glock;
void intrusive_ptr_add_ref(Glock* glock);
void intrusive_ptr_release(Glock* glock);
using GlockRef = boost::intrusive_ptr<Glock>;

/// The right to use what a glock protects, until destroyed or released.
class [[nodiscard]] GlockHolder {
 public:
  GlockHolder() = default;
  GlockHolder(GlockHolder&& other) noexcept;
  GlockHolder& operator=(GlockHolder&& other) noexcept;
  ~GlockHolder() { release(); }
  void release();
  bool held() const { return glock_ != nullptr; }
  GlockMode mode() const { return mode_; }
  Glock& glock() const { return *glock_; }

 private:
  friend class Glock;
  GlockHolder(GlockRef glock, GlockMode mode) : glock_(std::move(glock)), mode_(mode) {}
  GlockRef glock_;
  GlockMode mode_ = GlockMode::shared;
};

class Glock : public boost::intrusive::list_base_hook<> {
 public:
  const GlockName& name() const { return name_; }
  /// "inode 1234"
  std::string describe() const;
  /// Cached blocks that this glock protects.
  BlockOwner& blocks() { return blocks_; }

  /// Waits for its turn, and until the node is certain of its locks. EIO when the mount has withdrawn.
  Task<Result<GlockHolder>> acquire(GlockMode mode);
  /// Empty if it cannot be had at once; never asks other nodes.
  std::optional<GlockHolder> try_acquire(GlockMode mode);
  /// Beside those who hold it already, out of turn: for work that one of them may wait for. Where nobody holds it, like
  /// try_acquire().
  std::optional<GlockHolder> try_join(GlockMode mode);
  /// Empty if somebody, here or on another node, is in the way; waits for the lock space's answers, and until what
  /// nobody here holds any more was given up, but for no holder.
  Task<Result<std::optional<GlockHolder>>> attempt(GlockMode mode, LockHow how = LockHow::attempt);

  bool held_by_anyone() const { return shared_ + deferred_ + exclusive_ != 0; }
  bool contended() const { return !queue_.empty(); }
  /// The mode of this node as a whole.
  GlockMode node_mode() const { return node_mode_; }
  /// What goes with the glock's name on all nodes: as the last one wrote it who held it exclusively. To be read under
  /// the glock, and written by who holds it exclusively.
  const LockValue& value() const { return value_; }
  void set_value(const LockValue& value);
  /// While the upper layer forgets (GlockTable::on_invalidate): lets in, until it has, whatever the node's mode covers,
  /// out of turn too. For the case that the upper layer cannot forget before it has got answers that wait here.
  void serve_while_invalidating();
  /// True if other nodes have waited for longer than the hold time: a holder should let go and queue again.
  bool overdue() const { return demote_to_.has_value() && now() >= demote_not_before_; }

 private:
  friend class GlockTable;
  friend class GlockHolder;
  friend void intrusive_ptr_add_ref(Glock* glock);
  friend void intrusive_ptr_release(Glock* glock);

  struct Request : Waiter {
    Request(Glock& g, GlockMode m) : glock(g), mode(m) {}
    ~Request();
    bool await_ready();
    void await_suspend(std::coroutine_handle<> waiting);
    /// False if it was refused.
    bool await_resume() { return std::exchange(granted, false); }
    Glock& glock;
    GlockMode mode;
    bool granted = false;
  };

  /// The cached blocks; the glock goes with the last of them if nobody refers to it.
  class Blocks final : public BlockOwner {
   public:
    explicit Blocks(Glock& glock) : glock_(glock) {}
    std::string describe() const override { return glock_.describe(); }

   private:
    void emptied() override { glock_.forget_if_unused(); }
    Glock& glock_;
  };

  /// A glock that is in use is kept so long before it is given up: more where this node wants it back at once, less
  /// where it does not.
  static constexpr Duration kFirstHold = std::chrono::milliseconds(10);
  static constexpr Duration kLeastHold = std::chrono::milliseconds(2);
  static constexpr Duration kLongestHold = std::chrono::milliseconds(100);

  Glock(GlockTable& table, GlockName name, GlockMode node_mode);
  bool is_idle() const { return references_ == 0 && blocks_.empty(); }
  void forget_if_unused();
  bool compatible_with_holders(GlockMode mode) const;
  /// False while the node's mode does not allow it, or must be given up first.
  bool admits(GlockMode mode) const { return !changing_ && covers(node_mode_, mode) && (serving_ || !overdue()); }
  bool admit_now(GlockMode mode);
  void grant(Request& request);
  void count(GlockMode mode, int change);
  void leave(GlockMode mode);
  void grant_in_order();
  void refuse_all();
  void request_gone();
  Time now() const;

  // The node's mode
  /// True if holders keep it from coming down. Who has an inode in memory holds its iopen glock shared, and goes on so.
  bool held_beyond(GlockMode mode) const;
  void other_wants(GlockMode wanted);
  std::optional<GlockMode> next_demotion() const;
  bool must_change() const;
  /// Grants what can be, and has the node's mode changed where that is due.
  void advance();
  Task<void> run_changes();
  Task<void> change_once();
  Task<LockAnswer> ask_for(GlockMode mode, LockHow how);
  Task<void> promote(GlockMode mode);
  Task<void> come_down(GlockMode to);
  Task<void> demote(GlockMode to);
  void note_granted(GlockMode mode, const LockValue& value);
  void note_demoted(GlockMode mode);

  GlockTable& table_;
  GlockName name_;
  Blocks blocks_;
  std::uint32_t references_ = 0;
  std::uint32_t shared_ = 0;
  std::uint32_t deferred_ = 0;
  std::uint32_t exclusive_ = 0;
  WaitList queue_;

  GlockMode node_mode_;
  bool changing_ = false;               ///< node_mode_ is on its way to another: nobody is let in
  bool running_ = false;                ///< run_changes() is at work
  std::optional<GlockMode> asked_for_;  ///< of the lock space, which may take its time
  bool invalidating_ = false;           ///< the upper layer is forgetting
  bool serving_ = false;                ///< serve_while_invalidating() was called
  std::uint32_t grants_ = 0;            ///< counted, to notice them
  std::optional<GlockMode> demote_to_;  ///< what others leave to this node
  Time demote_not_before_{};
  Time hold_until_{};
  Duration hold_ = kFirstHold;
  LockValue value_{};
  Signal change_ended_;
};

/// Since the mount began.
struct GlockCounters {
  std::uint64_t hits = 0;       ///< had at once
  std::uint64_t waits = 0;      ///< waited for, here or for other nodes
  std::uint64_t promotes = 0;   ///< asked of the lock space
  std::uint64_t demotes = 0;    ///< brought down
  std::uint64_t callbacks = 0;  ///< wanted by other nodes
};

/// What hangs on glocks beyond the cached blocks; implemented by Filesystem.
class GlockKeeper {
 public:
  virtual ~GlockKeeper() = default;
  /// Writes all that was changed under the glock, which nobody holds, to its place on the disk, stably, so that no
  /// replay of this node's journal would touch it. Under the freeze glock everything is changed; it is written whenever
  /// that is given up, from whatever mode, and the journal ends as that of a frozen volume.
  virtual Task<Result<>> write(Glock& glock) = 0;
  /// Forgets all that was derived from what the glock protects, except cached blocks.
  virtual Task<void> forget(GlockName name) = 0;
  /// Another node wants to free an inode and asks whether this one still has it in memory.
  virtual void iopen_wanted(BlockNo inode) = 0;
  /// Another node wants the volume to be thawed.
  virtual void thaw_wanted() = 0;
  /// A glock cannot be brought down, or the lock space is lost: nothing may be written any more.
  virtual void glock_failed(const Error& error) = 0;
};

/// All glocks of a mount. A glock lives while somebody refers to it, blocks are cached under it, or the node has a lock
/// that it must give back.
class GlockTable final : public LockClient {
 public:
  /// Without a lock space the node is alone. Both outlive the table.
  explicit GlockTable(Executor& executor, LockSpace* lock_space = nullptr);
  /// All references and cached blocks must have gone.
  ~GlockTable() override;
  GlockRef get(GlockType type, std::uint64_t number);
  LockSpace& lock_space() { return lock_space_; }
  /// True if other nodes may share the volume.
  bool clustered() const { return standing_mode_ != GlockMode::exclusive; }

  /// To be set before the first glock is acquired on a clustered mount.
  void set_keeper(GlockKeeper* keeper, BlockCache* cache);
  /// The upper layer (the kernel's caches) must forget what it knows under an inode's glock, down to what `to` leaves
  /// to this node. Awaited before the glock comes down from the mode that it still has; nobody holds it. Requests wait
  /// meanwhile, unless the upper layer calls Glock::serve_while_invalidating(); called again if any was let in.
  std::function<Task<void>(Glock& glock, GlockMode to)> on_invalidate;
  /// How often on_invalidate was due. What was read under a glock may be remembered by the upper layer if this number
  /// has not changed since the glock was let go.
  std::uint64_t invalidations() const { return invalidations_; }
  /// Another node wants to free the inode: the upper layer should let go of what it does not use. Must not wait.
  std::function<void(BlockNo inode)> on_free_wanted;

  /// The node dies: what is under way ends where it stands. Before anything that a keeper uses is destroyed.
  void abandon();
  /// After a withdraw: every acquire from now on fails with EIO, those that wait too; no lock is given up any more.
  void refuse();
  bool refusing() const { return refusing_; }
  /// Gives back the locks of this kind that nobody here holds or waits for.
  Task<void> give_back(GlockType type);
  /// No glock comes down any more; waits for those on their way. For unmounting, before the journal is shut down.
  Task<void> settle();
  /// At the end of the mount, when nothing is cached any more: gives back every lock.
  Task<void> leave();
  std::size_t size() const { return glocks_.size(); }
  const GlockCounters& counters() const { return counters_; }
  /// Glocks that are waited for, their holders and the node's modes, a line each: for who looks into a hang.
  std::vector<std::string> waiting() const;

  void blocked(GlockName name, GlockMode wanted) override;

 private:
  friend class Glock;
  friend void intrusive_ptr_add_ref(Glock* glock);
  friend void intrusive_ptr_release(Glock* glock);
  struct Hash {
    std::size_t operator()(const GlockName& name) const {
      return std::hash<std::uint64_t>{}(name.number * 16 + static_cast<std::uint64_t>(name.type));
    }
  };
  void note_idle(Glock& glock);

  Executor& executor_;
  LocalLockSpace alone_;
  LockSpace& lock_space_;
  const GlockMode standing_mode_;
  GlockKeeper* keeper_ = nullptr;
  BlockCache* cache_ = nullptr;
  std::unordered_map<GlockName, std::unique_ptr<Glock>, Hash> glocks_;
  boost::intrusive::list<Glock> idle_;  ///< that only the node's mode keeps, least recently used first
  std::uint64_t invalidations_ = 0;
  GlockCounters counters_;
  bool refusing_ = false;
  bool settled_ = false;
  std::unique_ptr<Scope> changes_;
};

}  // namespace corral
