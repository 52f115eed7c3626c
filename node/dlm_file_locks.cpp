#include "node/dlm_file_locks.h"

namespace corral {

namespace {

static_assert(kLastByte == dlm::kRangeEnd);

dlm::RangeMode range_mode(FileLockMode mode) {
  switch (mode) {
    case FileLockMode::unlocked:
      return dlm::RangeMode::unlocked;
    case FileLockMode::read:
      return dlm::RangeMode::read;
    case FileLockMode::write:
      break;
  }
  return dlm::RangeMode::write;
}

/// Passes an interruption on to the lock manager while the request is there.
class Wait final : public dlm::RangeWait {
 public:
  Wait(dlm::LockManager& manager, LockWaiter& waiter) : RangeWait(manager), waiter_(waiter) {
    waiter_.on_interrupt = [this] { cancel(); };
    if (waiter_.interrupted()) cancel();
  }
  ~Wait() override { waiter_.on_interrupt = nullptr; }
  bool of_process() const override { return waiter_.of_process(); }

 private:
  LockWaiter& waiter_;
};

Error for_user(const Error& error) {
  return error.code() == ESHUTDOWN ? Error(EIO) : error;
}

}  // namespace

DlmFileLocks::DlmFileLocks(dlm::LockManager& manager, Lease& lease)
    : manager_(manager), lease_(lease), record_locks_(manager, kPosixLocks), flocks_(manager, kFileLocks) {}

dlm::HeldRange DlmFileLocks::range_of(const FileLock& lock) const {
  const auto kind = lock.kind == FileLockKind::flock ? dlm::RangeOwnerKind::flock : dlm::RangeOwnerKind::record;
  return {{manager_.self(), kind, lock.owner}, lock.process, range_mode(lock.mode), {lock.first, lock.last}};
}

Task<Result<>> DlmFileLocks::until_certain() {
  if (!lease_.certain() && !co_await lease_.wait_until_certain()) co_return fail(EIO);
  co_return Result<>();
}

Task<Result<>> DlmFileLocks::set(BlockNo inode, FileLock wanted, LockWaiter* waiter) {
  CO_TRY_VOID(co_await until_certain());
  std::optional<Wait> wait;
  if (waiter != nullptr) wait.emplace(manager_, *waiter);
  auto done = co_await locks_of(wanted.kind).set(inode.value, range_of(wanted), wait ? &*wait : nullptr);
  if (!done) co_return std::unexpected(for_user(done.error()));
  co_return co_await until_certain();
}

Task<Result<std::optional<FileLockInTheWay>>> DlmFileLocks::test(BlockNo inode, FileLock wanted) {
  CO_TRY_VOID(co_await until_certain());
  auto found = co_await locks_of(wanted.kind).test(inode.value, range_of(wanted));
  if (!found) co_return std::unexpected(for_user(found.error()));
  CO_TRY_VOID(co_await until_certain());
  if (!*found) co_return std::nullopt;
  const dlm::HeldRange& held = **found;
  const FileLockMode mode = held.mode == dlm::RangeMode::write ? FileLockMode::write : FileLockMode::read;
  co_return FileLockInTheWay{mode, held.range.first, held.range.last, held.owner.node == manager_.self(), held.process};
}

}  // namespace corral
