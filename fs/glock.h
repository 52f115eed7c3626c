/// Glocks: the locks under which everything on the volume is read, cached and changed. Types and numbers are GFS2's.
///
/// A holder has the glock shared (read, cache) or exclusive (change); deferred is shared for O_DIRECT I/O that bypasses
/// caches. Requests are granted in order of arrival; compatible ones together. What was read under a glock (its
/// BlockOwner) stays cached after the last holder has gone.
///
/// Order, to be free of deadlock: directories before what they contain (two directories: an ancestor first, else by
/// block number), inodes of one kind by block number, then resource groups by block number, then quota. A transaction
/// is begun only when all glocks it needs are held. docs/LOCKING.md has the table.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>

#include <boost/smart_ptr/intrusive_ptr.hpp>

#include "base/result.h"
#include "base/sync.h"
#include "base/task.h"
#include "journal/block_cache.h"

namespace corral {

/// LM_TYPE_*: first half of a glock's name.
enum class GlockType : std::uint8_t {
  nondisk = 1,
  inode = 2,
  resource_group = 3,
  meta = 4,
  iopen = 5,
  flock = 6,
  plock = 7,
  quota = 8,
  journal = 9,
};

/// LM_ST_*. Shared and deferred exclude each other; exclusive excludes all.
enum class GlockMode : std::uint8_t { shared, deferred, exclusive };

struct GlockName {
  GlockType type;
  std::uint64_t number;
  auto operator<=>(const GlockName&) const = default;
};

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

class Glock {
 public:
  const GlockName& name() const { return name_; }
  /// Cached blocks that this glock protects.
  BlockOwner& blocks() { return blocks_; }

  /// Waits for its turn. EIO when the mount has withdrawn.
  Task<Result<GlockHolder>> acquire(GlockMode mode);
  /// Empty if it cannot be had at once.
  std::optional<GlockHolder> try_acquire(GlockMode mode);
  bool held_by_anyone() const { return shared_ + deferred_ + exclusive_ != 0; }
  bool contended() const { return !queue_.empty(); }

 private:
  friend class GlockTable;
  friend class GlockHolder;
  friend void intrusive_ptr_add_ref(Glock* glock);
  friend void intrusive_ptr_release(Glock* glock);

  struct Request : Waiter {
    Request(Glock& g, GlockMode m) : glock(g), mode(m) {}
    ~Request();
    bool await_ready() { return glock.admit_now(mode); }
    void await_suspend(std::coroutine_handle<> waiting);
    void await_resume() { granted = false; }
    Glock& glock;
    GlockMode mode;
    bool granted = false;
  };

  /// The cached blocks; the glock goes with the last of them if nobody refers to it.
  class Blocks final : public BlockOwner {
   public:
    explicit Blocks(Glock& glock) : glock_(glock) {}
    std::string describe() const override;

   private:
    void emptied() override { glock_.forget_if_unused(); }
    Glock& glock_;
  };

  Glock(GlockTable& table, GlockName name) : table_(table), name_(name), blocks_(*this) {}
  void forget_if_unused();
  bool compatible(GlockMode mode) const;
  bool admit_now(GlockMode mode);
  void count(GlockMode mode, int change);
  void leave(GlockMode mode);
  void grant_in_order();

  GlockTable& table_;
  GlockName name_;
  Blocks blocks_;
  std::uint32_t references_ = 0;
  std::uint32_t shared_ = 0;
  std::uint32_t deferred_ = 0;
  std::uint32_t exclusive_ = 0;
  WaitList queue_;
};

/// All glocks of a mount. A glock lives while somebody refers to it or blocks are cached under it.
class GlockTable {
 public:
  explicit GlockTable(Executor& executor) : executor_(executor) {}
  /// All references and cached blocks must have gone.
  ~GlockTable();
  GlockRef get(GlockType type, std::uint64_t number);
  /// After a withdraw: every acquire from now on fails with EIO.
  void refuse() { refusing_ = true; }
  bool refusing() const { return refusing_; }
  std::size_t size() const { return glocks_.size(); }

 private:
  friend class Glock;
  friend void intrusive_ptr_release(Glock* glock);
  struct Hash {
    std::size_t operator()(const GlockName& name) const {
      return std::hash<std::uint64_t>{}(name.number * 16 + static_cast<std::uint64_t>(name.type));
    }
  };
  Executor& executor_;
  std::unordered_map<GlockName, std::unique_ptr<Glock>, Hash> glocks_;
  bool refusing_ = false;
};

}  // namespace corral
