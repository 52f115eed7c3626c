#include "fs/glock.h"

#include <algorithm>
#include <utility>

namespace corral {

void intrusive_ptr_add_ref(Glock* glock) {
  if (glock->references_++ == 0 && glock->is_linked())
    glock->table_.idle_.erase(glock->table_.idle_.iterator_to(*glock));
}

void intrusive_ptr_release(Glock* glock) {
  --glock->references_;
  glock->forget_if_unused();
}

GlockHolder::GlockHolder(GlockHolder&& other) noexcept : glock_(std::move(other.glock_)), mode_(other.mode_) {}

GlockHolder& GlockHolder::operator=(GlockHolder&& other) noexcept {
  if (this != &other) {
    release();
    glock_ = std::move(other.glock_);
    mode_ = other.mode_;
  }
  return *this;
}

void GlockHolder::release() {
  if (GlockRef glock = std::move(glock_)) glock->leave(mode_);
}

Glock::Glock(GlockTable& table, GlockName name, GlockMode node_mode)
    : table_(table), name_(name), blocks_(*this), node_mode_(node_mode), change_ended_(table.executor_) {}

std::string Glock::describe() const {
  switch (name_.type) {
    case GlockType::inode:
      return fmt::format("inode {}", name_.number);
    case GlockType::resource_group:
      return fmt::format("resource group {}", name_.number);
    default:
      return fmt::format("glock {}/{}", static_cast<int>(name_.type), name_.number);
  }
}

Time Glock::now() const {
  return table_.executor_.now();
}

bool Glock::compatible_with_holders(GlockMode mode) const {
  if (exclusive_ != 0) return false;
  switch (mode) {
    case GlockMode::shared:
      return deferred_ == 0;
    case GlockMode::deferred:
      return shared_ == 0;
    case GlockMode::exclusive:
      return shared_ + deferred_ == 0;
    case GlockMode::unlocked:
      break;
  }
  CHECK_INVARIANT(false);
  return false;
}

bool Glock::admit_now(GlockMode mode) {
  if ((!queue_.empty() && !serving_) || !admits(mode) || !compatible_with_holders(mode)) return false;
  count(mode, 1);
  return true;
}

void Glock::count(GlockMode mode, int change) {
  std::uint32_t& counter = mode == GlockMode::shared ? shared_ : mode == GlockMode::deferred ? deferred_ : exclusive_;
  counter += static_cast<std::uint32_t>(change);
  grants_ += change > 0 ? 1 : 0;
}

void Glock::leave(GlockMode mode) {
  count(mode, -1);
  advance();
}

void Glock::grant(Request& request) {
  count(request.mode, 1);
  request.granted = true;
  table_.executor_.make_ready(request);
}

void Glock::grant_in_order() {
  for (Waiter* next = queue_.first(); next != nullptr;) {
    auto& request = static_cast<Request&>(*next);
    next = WaitList::after(request);
    if (admits(request.mode) && compatible_with_holders(request.mode))
      grant(request);
    else if (!serving_)
      return;
  }
}

void Glock::serve_while_invalidating() {
  if (!invalidating_) return;
  serving_ = true;
  grant_in_order();
}

void Glock::refuse_all() {
  while (Waiter* request = queue_.first())
    table_.executor_.make_ready(*request);
  change_ended_.notify_all();
}

bool Glock::Request::await_ready() {
  granted = glock.admit_now(mode);
  ++(granted ? glock.table_.counters_.hits : glock.table_.counters_.waits);
  return granted;
}

void Glock::Request::await_suspend(std::coroutine_handle<> waiting) {
  handle = waiting;
  glock.queue_.push_back(*this);
  glock.advance();
}

Glock::Request::~Request() {
  if (granted) {
    glock.leave(mode);  // destroyed between the grant and its use
  } else if (linked()) {
    unlink();
    glock.request_gone();
  }
}

/// Destroyed while it waited: what was asked for in its name may be wanted by nobody.
void Glock::request_gone() {
  if (!asked_for_ || table_.refusing_ || table_.changes_ == nullptr) return;
  const bool still_wanted = !queue_.empty() && static_cast<const Request&>(*queue_.first()).mode == *asked_for_;
  if (!still_wanted) table_.lock_space_.cancel(name_);
}

Task<Result<GlockHolder>> Glock::acquire(GlockMode mode) {
  GlockRef self(this);
  if (table_.refusing_) co_return fail(EIO);
  const bool granted = co_await Request(*this, mode);
  if (!granted) co_return fail(EIO);
  GlockHolder holder(std::move(self), mode);
  if (!table_.lock_space_.certain() && !co_await table_.lock_space_.wait_until_certain()) co_return fail(EIO);
  if (table_.refusing_) co_return fail(EIO);
  co_return holder;
}

std::optional<GlockHolder> Glock::try_acquire(GlockMode mode) {
  if (table_.refusing_ || !table_.lock_space_.certain() || !admit_now(mode)) return std::nullopt;
  return GlockHolder(GlockRef(this), mode);
}

std::optional<GlockHolder> Glock::try_join(GlockMode mode) {
  if (!held_by_anyone()) return try_acquire(mode);
  if (table_.refusing_ || !table_.lock_space_.certain() || changing_) return std::nullopt;
  if (!covers(node_mode_, mode) || !compatible_with_holders(mode)) return std::nullopt;
  count(mode, 1);
  return GlockHolder(GlockRef(this), mode);
}

void Glock::set_value(const LockValue& value) {
  CHECK_INVARIANT(exclusive_ != 0);
  value_ = value;
}

Task<Result<std::optional<GlockHolder>>> Glock::attempt(GlockMode mode, LockHow how) {
  GlockRef self(this);
  // A mode that is not enough is given up first, so that after a failed attempt nothing of this node is in the way of
  // whoever was told about it and tries next.
  while (!table_.refusing_ && queue_.empty() && !held_by_anyone()) {
    const bool can_ask = node_mode_ == GlockMode::unlocked || covers(node_mode_, mode);
    if (!can_ask && !changing_ && !running_) other_wants(GlockMode::exclusive);
    if (!changing_ && !running_) break;
    co_await change_ended_.wait();
  }
  if (table_.refusing_) co_return fail(EIO);
  if (admit_now(mode)) co_return GlockHolder(std::move(self), mode);
  const bool others_first = !queue_.empty() || changing_ || demote_to_ || !compatible_with_holders(mode);
  const bool by_way_of_unlocked = node_mode_ != GlockMode::unlocked && mode != GlockMode::exclusive;
  if (others_first || by_way_of_unlocked) co_return std::nullopt;
  const LockAnswer answer = co_await ask_for(mode, how);
  change_ended_.notify_all();
  if (table_.refusing_) co_return fail(EIO);
  std::optional<GlockHolder> holder;
  if (answer.outcome == LockOutcome::granted) {
    note_granted(mode, answer.value);
    count(mode, 1);
    holder = GlockHolder(self, mode);
  } else if (answer.outcome == LockOutcome::withdrawn) {
    table_.keeper_->glock_failed(Error(EIO, describe() + ": the lock space is lost", ErrorKind::device));
    co_return fail(EIO);
  }
  advance();
  co_return holder;
}

void Glock::forget_if_unused() {
  if (!is_idle()) return;
  if (node_mode_ == table_.standing_mode_)
    table_.glocks_.erase(name_);
  else
    table_.note_idle(*this);
}

GlockTable::GlockTable(Executor& executor, LockSpace* lock_space)
    : executor_(executor),
      lock_space_(lock_space != nullptr ? *lock_space : alone_),
      standing_mode_(lock_space_.standing_mode()),
      changes_(std::make_unique<Scope>(executor)) {
  lock_space_.set_client(this);
}

GlockTable::~GlockTable() {
  lock_space_.set_client(nullptr);
  changes_.reset();
  idle_.clear();
  for (const auto& [name, glock] : glocks_)
    CHECK_INVARIANT(glock->is_idle());
}

void GlockTable::set_keeper(GlockKeeper* keeper, BlockCache* cache) {
  keeper_ = keeper;
  cache_ = cache;
}

GlockRef GlockTable::get(GlockType type, std::uint64_t number) {
  GlockName name{type, number};
  auto& glock = glocks_[name];
  if (glock == nullptr) glock.reset(new Glock(*this, name, standing_mode_));
  return GlockRef(glock.get());
}

void GlockTable::abandon() {
  lock_space_.set_client(nullptr);
  changes_.reset();
}

void GlockTable::refuse() {
  refusing_ = true;
  for (const auto& [name, glock] : glocks_)
    glock->refuse_all();
}

}  // namespace corral
