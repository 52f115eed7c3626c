/// Locks on files from the lock manager: fs/file_locks.h over dlm/posix_locks.h, in the lockspaces kPosixLocks (fcntl)
/// and kFileLocks (flock).
///
/// Nothing is answered while this node cannot tell whether it still is a member: others may have been given what it
/// had.
#pragma once

#include "dlm/posix_locks.h"
#include "fs/file_locks.h"
#include "node/dlm_lock_space.h"

namespace corral {

class DlmFileLocks final : public FileLocks {
 public:
  /// Manager and lease outlive it. Destroyed when nothing waits in it any more.
  DlmFileLocks(dlm::LockManager& manager, Lease& lease);

  Task<Result<>> set(BlockNo inode, FileLock wanted, LockWaiter* waiter) override;
  Task<Result<std::optional<FileLockInTheWay>>> test(BlockNo inode, FileLock wanted) override;

 private:
  dlm::PosixLocks& locks_of(FileLockKind kind) { return kind == FileLockKind::flock ? flocks_ : record_locks_; }
  dlm::HeldRange range_of(const FileLock& lock) const;
  Task<Result<>> until_certain();

  dlm::LockManager& manager_;
  Lease& lease_;
  dlm::PosixLocks record_locks_;
  dlm::PosixLocks flocks_;
};

}  // namespace corral
