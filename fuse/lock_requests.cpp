#include "fuse/lock_requests.h"

#include "fuse/caller_syscall.h"
#include "fuse/encode.h"

namespace corral {

bool RecordLockOwners::remove(BlockNo inode, std::uint64_t owner) {
  bool found = false;
  for (auto at = known_.lower_bound({inode, 0, 0}); at != known_.end() && std::get<0>(*at) == inode;) {
    const bool gone = std::get<2>(*at) == owner;
    found |= gone;
    at = gone ? known_.erase(at) : std::next(at);
  }
  return found;
}

std::vector<std::uint64_t> RecordLockOwners::remove_handle(BlockNo inode, std::uint64_t handle) {
  std::vector<std::uint64_t> owners;
  auto at = known_.lower_bound({inode, handle, 0});
  while (at != known_.end() && std::get<0>(*at) == inode && std::get<1>(*at) == handle) {
    owners.push_back(std::get<2>(*at));
    at = known_.erase(at);
  }
  return owners;
}

/// A SETLKW from its arrival to its answer.
class LockRequests::Waiting final : public LockWaiter {
 public:
  Waiting(LockRequests& requests, const fuse_in_header& header)
      : requests_(requests), unique_(header.unique), thread_(header.pid) {
    requests_.waiting_.emplace(unique_, this);
  }
  ~Waiting() override { requests_.waiting_.erase(unique_); }
  bool of_process() const override { return !waits_for_open_file_lock(thread_); }

 private:
  LockRequests& requests_;
  std::uint64_t unique_;
  std::uint32_t thread_;
};

Task<void> LockRequests::set(Request request, BlockNo inode, bool wait) {
  if (!served()) co_return request.fail(ENOSYS);
  Result<FileLock> wanted = decode_lock(request.fixed<fuse_lk_in>());
  if (!wanted) co_return request.fail(wanted.error().code());
  Result<> done;
  if (wanted->mode == FileLockMode::unlocked)
    done = co_await unlock(inode, *wanted);
  else
    done = co_await lock(request, inode, wait, *wanted);
  // EINTR is for who has a signal: without one the kernel would hand a code of its own on to the process.
  const int error = done ? 0 : done.error().code();
  request.fail(error == EINTR && ended_ ? EIO : error);
}

Task<Result<>> LockRequests::lock(const Request& request, BlockNo inode, bool wait, FileLock wanted) {
  const std::uint64_t handle = request.fixed<fuse_lk_in>().fh;
  const bool record = wanted.kind == FileLockKind::record;
  // Before: a close meanwhile is to see it. After: an unlock of everything meanwhile has forgotten it.
  if (record) owners_.add(inode, handle, wanted.owner);
  std::optional<Waiting> waiting;
  if (wait) waiting.emplace(*this, request.header());
  Result<> done = co_await locks_->set(inode, wanted, waiting ? &*waiting : nullptr);
  if (done && record) owners_.add(inode, handle, wanted.owner);
  co_return done;
}

Task<Result<>> LockRequests::unlock(BlockNo inode, FileLock which) {
  const bool everything = which.first == 0 && which.last == kLastByte;
  if (which.kind == FileLockKind::record && everything) owners_.remove(inode, which.owner);
  co_return co_await locks_->set(inode, which, nullptr);
}

Task<void> LockRequests::test(Request request, BlockNo inode) {
  if (!served()) co_return request.fail(ENOSYS);
  Result<FileLock> wanted = decode_lock(request.fixed<fuse_lk_in>());
  if (!wanted) co_return request.fail(wanted.error().code());
  auto found = co_await locks_->test(inode, *wanted);
  if (!found) co_return request.fail(found.error().code());
  request.succeed_with(encode_lock(*found));
}

Task<void> LockRequests::unlock_all(BlockNo inode, FileLockKind kind, std::uint64_t owner) {
  FileLock everything;
  everything.kind = kind;
  everything.mode = FileLockMode::unlocked;
  everything.owner = owner;
  // It fails only where the locks are void anyway.
  [[maybe_unused]] const Result<> unlocked = co_await locks_->set(inode, everything, nullptr);
}

Task<void> LockRequests::closed(BlockNo inode, std::uint64_t owner) {
  if (owners_.remove(inode, owner)) co_await unlock_all(inode, FileLockKind::record, owner);
}

Task<void> LockRequests::released(BlockNo inode, fuse_release_in how) {
  if ((how.release_flags & FUSE_RELEASE_FLOCK_UNLOCK) != 0)
    co_await unlock_all(inode, FileLockKind::flock, how.lock_owner);
  for (std::uint64_t owner : owners_.remove_handle(inode, how.fh))
    co_await unlock_all(inode, FileLockKind::record, owner);
}

void LockRequests::interrupt(std::uint64_t unique) {
  auto found = waiting_.find(unique);
  if (found != waiting_.end()) found->second->interrupt();
}

void LockRequests::end() {
  ended_ = true;
  for (const auto& [unique, waiter] : waiting_)
    waiter->interrupt();
}

}  // namespace corral
