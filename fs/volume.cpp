#include "fs/volume.h"

namespace corral {

void Volume::withdraw(const Error& reason) {
  if (withdrawn) return;
  withdrawn = true;
  withdraw_reason = reason.describe();
  if (on_withdraw) on_withdraw(reason);
}

Result<> Volume::check_writable() const {
  if (withdrawn) return fail(EIO);
  if (journal == nullptr) return fail(EROFS);
  return {};
}

Task<Result<GlockHolder>> Volume::change() {
  CO_TRY_VOID(check_writable());
  const GlockRef glock = glocks.get(kFreezeGlock.type, kFreezeGlock.number);
  CO_TRY(GlockHolder holder, co_await glock->acquire(kChangeMode));
  CO_TRY_VOID(check_writable());
  journal->thaw();
  co_return holder;
}

std::optional<GlockHolder> Volume::try_change() {
  if (!writable()) return std::nullopt;
  auto holder = glocks.get(kFreezeGlock.type, kFreezeGlock.number)->try_acquire(kChangeMode);
  if (holder) journal->thaw();
  return holder;
}

std::optional<GlockHolder> Volume::try_join_change() {
  if (!writable()) return std::nullopt;
  auto holder = glocks.get(kFreezeGlock.type, kFreezeGlock.number)->try_join(kChangeMode);
  if (holder) journal->thaw();
  return holder;
}

Task<Result<GlockHolder>> Volume::join_change() {
  if (auto joined = try_join_change()) co_return *std::move(joined);
  co_return co_await change();
}

}  // namespace corral
