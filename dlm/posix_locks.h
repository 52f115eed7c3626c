/// POSIX locks for the filesystem: fcntl and flock on an inode, cluster-wide. Coroutines over RangeLocks.
///
/// A file in use has an NL lock of this node on its resource, which keeps the resource's master; the table is there.
/// The node that uses a file first, and as long as it is the only one, is the master itself: no message.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>

#include "base/result.h"
#include "base/sync.h"
#include "base/task.h"
#include "dlm/lock_manager.h"

namespace corral::dlm {

/// One operation that may have to wait, in the hands of its caller: a signal cancels it.
class RangeWait {
 public:
  explicit RangeWait(LockManager& manager) : manager_(manager) {}
  RangeWait(const RangeWait&) = delete;
  RangeWait& operator=(const RangeWait&) = delete;
  /// The operation ends with EINTR, unless it is done first.
  void cancel();

 private:
  friend class PosixLocks;
  LockManager& manager_;
  std::uint64_t operation_ = 0;
  bool cancelled_ = false;
};

class PosixLocks {
 public:
  /// `lockspace` is for these locks alone; fcntl locks and flocks do not see each other and want one each.
  PosixLocks(LockManager& manager, LockspaceId lockspace) : manager_(manager), lockspace_(lockspace) {}
  /// No operation may be under way.
  ~PosixLocks();

  /// Locks or unlocks (mode `unlocked`) the range for the owner, who belongs to this node. Without `wait` a conflict is
  /// EAGAIN; with it EDEADLK if processes of this node would wait for each other for ever, EINTR after wait->cancel().
  /// Other errors: ENOLCK (a limit), ESHUTDOWN.
  Task<Result<>> set(std::uint64_t inode, HeldRange wanted, RangeWait* wait);
  /// The first lock that would keep the owner from getting the range, with its node and process (F_GETLK).
  Task<Result<std::optional<HeldRange>>> test(std::uint64_t inode, HeldRange wanted);

  /// Files on which this node has locks or operations.
  std::size_t files_in_use() const { return pins_.size(); }

 private:
  /// Keeps the file's resource while operations and locks need it.
  struct Pin {
    Pin(LockManager& manager, const ResourceName& name) : lock(manager, name, nullptr), acquiring(manager.executor_) {}
    Lock lock;
    Mutex acquiring;
    std::size_t operations = 0;
  };

  ResourceName name_of(std::uint64_t inode) const;
  Task<Result<RangeOutcome>> run(std::uint64_t inode, RangeAction action, HeldRange wanted, RangeWait* wait);
  Task<Result<RangeOutcome>> run_pinned(Pin& pin, RangeAction action, HeldRange wanted, RangeWait* wait);

  LockManager& manager_;
  LockspaceId lockspace_;
  std::map<std::uint64_t, std::unique_ptr<Pin>> pins_;
};

}  // namespace corral::dlm
