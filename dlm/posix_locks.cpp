#include "dlm/posix_locks.h"

#include <fmt/format.h>

#include "base/check.h"

namespace corral::dlm {

PosixLocks::~PosixLocks() {
  for (const auto& [inode, pin] : pins_)
    CHECK_INVARIANT(pin->operations == 0);
}

void RangeWait::cancel() {
  cancelled_ = true;
  if (operation_ == 0) return;
  manager_.engine_.cancel_range(operation_);
  manager_.act();
}

ResourceName PosixLocks::name_of(std::uint64_t inode) const {
  return ResourceName(lockspace_, fmt::format("{:x}", inode));
}

Task<Result<>> PosixLocks::set(std::uint64_t inode, HeldRange wanted, RangeWait* wait) {
  const RangeAction action = wait != nullptr ? RangeAction::set_or_wait : RangeAction::set;
  CO_TRY(RangeOutcome outcome, co_await run(inode, action, wanted, wait));
  if (outcome.error != 0) co_return fail(outcome.error);
  co_return Result<>();
}

Task<Result<std::optional<HeldRange>>> PosixLocks::test(std::uint64_t inode, HeldRange wanted) {
  CO_TRY(RangeOutcome outcome, co_await run(inode, RangeAction::test, wanted, nullptr));
  if (outcome.error != 0) co_return fail(outcome.error);
  co_return outcome.conflict;
}

Task<Result<RangeOutcome>> PosixLocks::run(std::uint64_t inode, RangeAction action, HeldRange wanted, RangeWait* wait) {
  auto& slot = pins_[inode];
  if (!slot) slot = std::make_unique<Pin>(manager_, name_of(inode));
  // Unpins also when this frame is destroyed while it waits.
  struct Use {
    Use(PosixLocks& locks, std::uint64_t of_inode, Pin& used) : owner(locks), inode(of_inode), pin(used) {
      ++pin.operations;
    }
    Use(const Use&) = delete;
    Use& operator=(const Use&) = delete;
    ~Use() {
      if (--pin.operations == 0 && !owner.manager_.engine_.range_in_use(pin.lock.name())) owner.pins_.erase(inode);
    }
    PosixLocks& owner;
    std::uint64_t inode;
    Pin& pin;
  };
  Use use(*this, inode, *slot);
  co_return co_await run_pinned(use.pin, action, wanted, wait);
}

Task<Result<RangeOutcome>> PosixLocks::run_pinned(Pin& pin, RangeAction action, HeldRange wanted, RangeWait* wait) {
  {
    auto acquiring = co_await pin.acquiring.lock();
    if (!pin.lock.granted()) CO_TRY_VOID(co_await pin.lock.acquire(Mode::null));
  }
  if (wait != nullptr && wait->cancelled_) co_return fail(EINTR);
  if (manager_.out_of_cluster()) co_return fail(ESHUTDOWN);
  Completion<RangeOutcome> completion(manager_.executor_);
  const std::uint64_t operation = manager_.engine_.begin_range(pin.lock.name(), action, wanted);
  // Forgets the operation also when this frame is destroyed while it waits; it is then cancelled.
  struct Registration {
    Registration(LockManager& manager_of, std::uint64_t number, RangeWait* wait_of, Completion<RangeOutcome>& into)
        : manager(manager_of), operation(number), wait(wait_of), completion(into) {
      manager.ranges_.emplace(operation, &completion);
      if (wait != nullptr) wait->operation_ = operation;
    }
    Registration(const Registration&) = delete;
    Registration& operator=(const Registration&) = delete;
    ~Registration() {
      manager.ranges_.erase(operation);
      if (wait != nullptr) wait->operation_ = 0;
      if (completion.is_set()) return;
      manager.engine_.cancel_range(operation);
      manager.act();
    }
    LockManager& manager;
    std::uint64_t operation;
    RangeWait* wait;
    Completion<RangeOutcome>& completion;
  };
  Registration registration(manager_, operation, wait, completion);
  manager_.act();
  co_return co_await completion.wait();
}

}  // namespace corral::dlm
