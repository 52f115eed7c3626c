/// The seam between the kernel's requests for locks on files, fcntl(2) and flock(2), and whoever grants them among the
/// nodes of a cluster. Where a node is alone there is nobody behind it: the kernel keeps such locks by itself.
///
/// Two kinds of lock that do not see each other. A record lock covers bytes, and its owner is a process or, for open
/// file description locks, an open file: the kernel does not say which, and it makes no difference but in deadlocks
/// (LockWaiter::of_process). A flock covers the whole file, and its owner is an open file. Owners are numbers of the
/// kernel's, of this node alone.
///
/// Locks belong to one life of a node in the cluster: when that ends they are void, and who waits gets EIO. They say
/// nothing of the file's contents; that a holder sees what the last one wrote is the glocks' affair.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <optional>

#include "base/result.h"
#include "base/strong.h"
#include "base/task.h"

namespace corral {

enum class FileLockKind : std::uint8_t { record, flock };

/// A stronger one implies the weaker.
enum class FileLockMode : std::uint8_t { unlocked, read, write };

/// The last byte that a file can have.
inline constexpr std::uint64_t kLastByte = std::numeric_limits<std::int64_t>::max();

/// A lock that is asked for or held. Bytes `first` to `last`, both included, at most kLastByte; a flock covers all.
struct FileLock {
  FileLockKind kind = FileLockKind::record;
  FileLockMode mode = FileLockMode::read;
  std::uint64_t first = 0;
  std::uint64_t last = kLastByte;
  std::uint64_t owner = 0;
  std::uint32_t process = 0;  ///< who asked for it, for people
};

/// A lock in the way of another.
struct FileLockInTheWay {
  FileLockMode mode = FileLockMode::read;
  std::uint64_t first = 0;
  std::uint64_t last = kLastByte;
  bool here = true;  ///< of this node; the process is one of the node's that has it
  std::uint32_t process = 0;
};

/// A request that may wait, in the hands of who made it.
class LockWaiter {
 public:
  LockWaiter() = default;
  virtual ~LockWaiter() = default;
  LockWaiter(const LockWaiter&) = delete;
  LockWaiter& operator=(const LockWaiter&) = delete;

  /// It ends with EINTR, unless it is granted first.
  void interrupt() {
    interrupted_ = true;
    if (on_interrupt) on_interrupt();
  }
  bool interrupted() const { return interrupted_; }
  /// Asked only when it would wait for ever if processes alone could have the locks it waits for: is the owner one?
  /// An open file's locks can be given up by whoever has it open, so that nobody can say that it waits for ever.
  virtual bool of_process() const = 0;

  /// Set by who grants, while it waits.
  std::function<void()> on_interrupt;

 private:
  bool interrupted_ = false;
};

class FileLocks {
 public:
  virtual ~FileLocks() = default;
  /// Locks, or unlocks with the mode `unlocked`, which waits for no other owner. An owner's record locks split and
  /// merge; a flock in another mode is given up first. Without a waiter a conflict is EAGAIN; with one it waits, and
  /// ends with EINTR when interrupted, or EDEADLK where processes of this node would wait for each other for ever.
  /// Other errors: ENOLCK (a limit), EIO (this node is no member of the cluster any more).
  virtual Task<Result<>> set(BlockNo inode, FileLock wanted, LockWaiter* waiter) = 0;
  /// The first lock that keeps the owner from getting the wanted one.
  virtual Task<Result<std::optional<FileLockInTheWay>>> test(BlockNo inode, FileLock wanted) = 0;
};

}  // namespace corral
