#include "node/dlm_lock_space.h"

#include <utility>

#include "base/check.h"

namespace corral {

dlm::ResourceName glock_resource(GlockName name) {
  return dlm::ResourceName(kGlocks, fmt::format("{}/{:x}", static_cast<unsigned>(name.type), name.number));
}

dlm::Mode dlm_mode(GlockMode mode) {
  switch (mode) {
    case GlockMode::unlocked:
      return dlm::Mode::null;
    case GlockMode::shared:
      return dlm::Mode::protected_read;
    case GlockMode::deferred:
      return dlm::Mode::concurrent_write;
    case GlockMode::exclusive:
      break;
  }
  return dlm::Mode::exclusive;
}

GlockMode glock_mode(dlm::Mode mode) {
  switch (mode) {
    case dlm::Mode::null:
      return GlockMode::unlocked;
    case dlm::Mode::concurrent_read:
    case dlm::Mode::protected_read:
      return GlockMode::shared;
    case dlm::Mode::concurrent_write:
      return GlockMode::deferred;
    case dlm::Mode::protected_write:
    case dlm::Mode::exclusive:
      break;
  }
  return GlockMode::exclusive;
}

struct DlmLockSpace::Held final : dlm::LockListener {
  Held(DlmLockSpace& in, GlockName of) : space(in), name(of), lock(in.manager_, glock_resource(of), this) {}
  void blocking(dlm::Lock&, dlm::Mode requested) override {
    if (space.client_ != nullptr) space.client_->blocked(name, glock_mode(requested));
  }
  DlmLockSpace& space;
  GlockName name;
  dlm::Lock lock;
};

DlmLockSpace::DlmLockSpace(Executor& executor, dlm::LockManager& manager, Lease& lease, Logger log)
    : executor_(executor), manager_(manager), lease_(lease), log_(std::move(log)) {}

DlmLockSpace::~DlmLockSpace() = default;

Task<LockAnswer> DlmLockSpace::change(GlockName name, GlockMode held, GlockMode wanted, LockHow how, LockValue value) {
  CHECK_INVARIANT(held != wanted);
  auto& slot = locks_[name];
  if (!slot) slot = std::make_unique<Held>(*this, name);
  dlm::Lock& lock = slot->lock;
  CHECK_INVARIANT(lock.granted() ? *lock.granted() == dlm_mode(held) : held == GlockMode::unlocked);
  dlm::LockFlags flags;
  flags.value = true;
  flags.no_queue = flags.no_queue_blocking = how != LockHow::wait;
  flags.after_recovery = how == LockHow::attempt_among_living;
  Result<> done;
  if (wanted == GlockMode::unlocked) {
    done = co_await lock.release(flags, value);
  } else if (auto granted = co_await lock.acquire(dlm_mode(wanted), flags, value); !granted) {
    done = std::unexpected(granted.error());
  }
  LockAnswer answer;
  if (!done) answer.outcome = outcome_of(name, done.error());
  // Zeros where the last who might have written it died.
  if (done && lock.value().valid) answer.value = lock.value().bytes;
  if (!lock.granted() && !lock.busy()) locks_.erase(name);
  co_return answer;
}

void DlmLockSpace::cancel(GlockName name) {
  if (const auto held = locks_.find(name); held != locks_.end()) held->second->lock.cancel();
}

LockOutcome DlmLockSpace::outcome_of(const GlockName& name, const Error& error) const {
  if (error.code() == EAGAIN || error.code() == EDEADLK || error.code() == ECANCELED) return LockOutcome::denied;
  if (error.code() != ESHUTDOWN)
    log_.error("lock manager: glock {}: {}", glock_resource(name).describe(), error.describe());
  return LockOutcome::withdrawn;
}

Task<void> DlmLockSpace::give_up(Held& held) {
  // A failure means that the node is out, and its locks with it.
  [[maybe_unused]] Result<> released = co_await held.lock.release();
}

Task<void> DlmLockSpace::leave() {
  Scope releases(executor_);
  for (auto& [name, held] : locks_)
    releases.spawn(give_up(*held));
  co_await releases.join();
  locks_.clear();
}

}  // namespace corral
