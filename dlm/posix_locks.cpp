#include "dlm/posix_locks.h"

#include <fmt/format.h>

#include "base/check.h"

namespace corral::dlm {

namespace {

/// While it lives, RangeWait::cancel() wakes who waits for a pin. Forgotten also when the frame is destroyed.
class Registered {
 public:
  Registered(Signal*& place, Signal& changed) : place_(place) { place_ = &changed; }
  ~Registered() { place_ = nullptr; }
  Registered(const Registered&) = delete;
  Registered& operator=(const Registered&) = delete;

 private:
  Signal*& place_;
};

}  // namespace

/// One operation on a file; ends also when its frame is destroyed while it waits.
class PosixLocks::Use {
 public:
  Use(PosixLocks& locks, std::uint64_t inode) : locks_(locks), inode_(inode) {
    auto& slot = locks.pins_[inode];
    if (!slot) slot = std::make_unique<Pin>(locks.manager_, locks.name_of(inode));
    pin_ = slot.get();
    pin_->used = true;
    ++pin_->operations;
  }
  Use(const Use&) = delete;
  Use& operator=(const Use&) = delete;
  ~Use() {
    --pin_->operations;
    if (!locks_.manager_.engine_.masters(pin_->lock.name())) ++pin_->remote_operations;
    if (pin_->remote_operations >= kRemoteOperations && locks_.idle(*pin_))
      locks_.pins_.erase(inode_);
    else
      locks_.rests(*pin_);
  }
  Pin& pin() const { return *pin_; }

 private:
  PosixLocks& locks_;
  std::uint64_t inode_;
  Pin* pin_;
};

PosixLocks::PosixLocks(LockManager& manager, LockspaceId lockspace)
    : manager_(manager), lockspace_(lockspace), scope_(manager.executor_) {}

PosixLocks::~PosixLocks() {
  for (const auto& [inode, pin] : pins_)
    CHECK_INVARIANT(pin->operations == 0);
}

void RangeWait::cancel() {
  cancelled_ = true;
  if (waits_for_pin_ != nullptr) waits_for_pin_->notify_all();
  if (operation_ == 0) return;
  manager_.engine_.cancel_range(operation_);
  manager_.act();
}

ResourceName PosixLocks::name_of(std::uint64_t inode) const {
  return ResourceName(lockspace_, fmt::format("{:x}", inode));
}

bool PosixLocks::idle(const Pin& pin) const {
  return pin.operations == 0 && !pin.acquiring && !manager_.engine_.range_in_use(pin.lock.name());
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
  const Use use(*this, inode);
  CO_TRY_VOID(co_await wait_for_pin(use.pin(), wait));
  co_return co_await run_pinned(use.pin().lock.name(), action, wanted, wait);
}

/// All who use the file wait for one acquiring, which nobody's signal ends for the others.
Task<Result<>> PosixLocks::wait_for_pin(Pin& pin, RangeWait* wait) {
  Signal* none = nullptr;
  const Registered registered(wait != nullptr ? wait->waits_for_pin_ : none, pin.changed);
  while (!pin.lock.granted()) {
    if (wait != nullptr && wait->cancelled_) co_return fail(EINTR);
    if (!pin.acquiring)
      scope_.spawn(acquire(pin));
    else
      co_await pin.changed.wait();
    if (!pin.acquiring && !pin.lock.granted()) co_return std::unexpected(pin.failure);
  }
  co_return Result<>();
}

Task<void> PosixLocks::acquire(Pin& pin) {
  pin.acquiring = true;
  auto granted = co_await pin.lock.acquire(Mode::concurrent_write);
  pin.acquiring = false;
  if (!granted) pin.failure = granted.error();
  pin.changed.notify_all();
  rests(pin);
}

Task<Result<RangeOutcome>> PosixLocks::run_pinned(ResourceName name, RangeAction action, HeldRange wanted,
                                                  RangeWait* wait) {
  if (wait != nullptr && wait->cancelled_) co_return fail(EINTR);
  if (manager_.out_of_cluster()) co_return fail(ESHUTDOWN);
  Completion<RangeOutcome> completion(manager_.executor_);
  const std::uint64_t operation = manager_.engine_.begin_range(name, action, wanted);
  // Forgets the operation also when this frame is destroyed while it waits; it is then cancelled.
  struct Registration {
    Registration(LockManager& manager_of, std::uint64_t number, RangeWait* wait_of, Completion<RangeOutcome>& into)
        : manager(manager_of), operation(number), wait(wait_of), completion(into) {
      manager.ranges_.emplace(operation, LockManager::RangeInFlight{&completion, wait});
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

/// The pin may be idle from now on.
void PosixLocks::rests(const Pin& pin) {
  if (!idle(pin) || std::exchange(dropping_, true)) return;
  scope_.spawn(drop_idle_pins());
}

Task<void> PosixLocks::drop_idle_pins() {
  for (bool any = true; any;) {
    co_await manager_.executor_.sleep_for(kPinKept);
    any = false;
    std::erase_if(pins_, [&](const auto& entry) {
      if (!idle(*entry.second)) return false;
      const bool drop = !std::exchange(entry.second->used, false);
      any |= !drop;
      return drop;
    });
  }
  dropping_ = false;
}

}  // namespace corral::dlm
