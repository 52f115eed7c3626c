#include "fs/glock.h"

#include <utility>

namespace corral {

void intrusive_ptr_add_ref(Glock* glock) {
  ++glock->references_;
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

bool Glock::compatible(GlockMode mode) const {
  if (exclusive_ != 0) return false;
  switch (mode) {
    case GlockMode::shared:
      return deferred_ == 0;
    case GlockMode::deferred:
      return shared_ == 0;
    case GlockMode::exclusive:
      return shared_ + deferred_ == 0;
  }
  return false;
}

bool Glock::admit_now(GlockMode mode) {
  if (!queue_.empty() || !compatible(mode)) return false;
  count(mode, 1);
  return true;
}

void Glock::count(GlockMode mode, int change) {
  std::uint32_t& counter = mode == GlockMode::shared ? shared_ : mode == GlockMode::deferred ? deferred_ : exclusive_;
  counter += static_cast<std::uint32_t>(change);
}

void Glock::leave(GlockMode mode) {
  count(mode, -1);
  grant_in_order();
}

void Glock::grant_in_order() {
  while (!queue_.empty()) {
    auto& request = static_cast<Request&>(*queue_.first());
    if (!compatible(request.mode)) return;
    count(request.mode, 1);
    request.granted = true;
    table_.executor_.make_ready(request);
  }
}

void Glock::Request::await_suspend(std::coroutine_handle<> waiting) {
  handle = waiting;
  glock.queue_.push_back(*this);
}

Glock::Request::~Request() {
  if (granted) glock.leave(mode);  // destroyed between the grant and its use
}

Task<Result<GlockHolder>> Glock::acquire(GlockMode mode) {
  GlockRef self(this);
  if (table_.refusing_) co_return fail(EIO);
  co_await Request(*this, mode);
  GlockHolder holder(std::move(self), mode);
  if (table_.refusing_) co_return fail(EIO);
  co_return holder;
}

std::optional<GlockHolder> Glock::try_acquire(GlockMode mode) {
  if (table_.refusing_ || !admit_now(mode)) return std::nullopt;
  return GlockHolder(GlockRef(this), mode);
}

void Glock::forget_if_unused() {
  if (references_ == 0 && blocks_.empty()) table_.glocks_.erase(name_);
}

std::string Glock::Blocks::describe() const {
  const GlockName& name = glock_.name();
  return fmt::format("{} {}", name.type == GlockType::resource_group ? "resource group" : "inode", name.number);
}

GlockTable::~GlockTable() {
  CHECK_INVARIANT(glocks_.empty());
}

GlockRef GlockTable::get(GlockType type, std::uint64_t number) {
  GlockName name{type, number};
  auto& glock = glocks_[name];
  if (glock == nullptr) glock.reset(new Glock(*this, name));
  return GlockRef(glock.get());
}

}  // namespace corral
