/// The kernel's requests for locks on files, served from FileLocks: SETLK, SETLKW, GETLK, and what FLUSH, RELEASE and
/// INTERRUPT mean for them.
///
/// The kernel keeps no record of such locks and checks nothing but the descriptor's access mode. It says when locks
/// end:
///
///   FLUSH      at every close(2) of every descriptor, with the process as the owner: its record locks on the file go,
///              whichever descriptor they were taken through. A process's end closes all.
///   RELEASE    when an open file has no descriptor left. Its flock goes (FUSE_RELEASE_FLOCK_UNLOCK), and so do its
///   open
///              file description locks, of which the kernel does not tell: they are those taken through this open file
///              (fh) that no FLUSH has ended, because processes' locks have been ended by one.
///   INTERRUPT  a signal for who waits.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <tuple>
#include <vector>

#include "fs/file_locks.h"
#include "fuse/channel.h"

namespace corral {

/// Who has taken record locks through which open file. More than there may be now: unlocking what is not locked does no
/// harm.
class RecordLockOwners {
 public:
  void add(BlockNo inode, std::uint64_t handle, std::uint64_t owner) { known_.emplace(inode, handle, owner); }
  /// Forgets the owner's locks on the file; false if there were none.
  bool remove(BlockNo inode, std::uint64_t owner);
  /// Forgets the open file, and tells the owners of locks taken through it.
  std::vector<std::uint64_t> remove_handle(BlockNo inode, std::uint64_t handle);
  bool empty() const { return known_.empty(); }

 private:
  std::set<std::tuple<BlockNo, std::uint64_t, std::uint64_t>> known_;
};

class LockRequests {
 public:
  LockRequests() = default;
  LockRequests(const LockRequests&) = delete;
  LockRequests& operator=(const LockRequests&) = delete;

  /// Who grants from now on; outlives what is asked of it. What was granted by the one before is void.
  void set_locks(FileLocks& locks) {
    locks_ = &locks;
    owners_ = {};
  }
  /// Are there any? If not, locks are the kernel's affair, and nothing else here is called.
  bool served() const { return locks_ != nullptr; }

  /// SETLK, and with `wait` SETLKW.
  Task<void> set(Request request, BlockNo inode, bool wait);
  /// GETLK. The kernel takes a process number for one of this machine: of another node's lock it is told 0.
  Task<void> test(Request request, BlockNo inode);
  /// FLUSH.
  Task<void> closed(BlockNo inode, std::uint64_t owner);
  /// RELEASE.
  Task<void> released(BlockNo inode, fuse_release_in how);
  /// INTERRUPT of the request with this number, if it is one that waits for a lock.
  void interrupt(std::uint64_t unique);
  /// The kernel lets go of the mount: whoever waits for a lock gets EIO.
  void end();

 private:
  class Waiting;
  Task<Result<>> lock(const Request& request, BlockNo inode, bool wait, FileLock wanted);
  Task<Result<>> unlock(BlockNo inode, FileLock which);
  Task<void> unlock_all(BlockNo inode, FileLockKind kind, std::uint64_t owner);

  FileLocks* locks_ = nullptr;
  bool ended_ = false;
  RecordLockOwners owners_;
  std::map<std::uint64_t, LockWaiter*> waiting_;  ///< by the request's number
};

}  // namespace corral
