#include "fence/life_fencer.h"

namespace corral {

Task<Result<>> LifeFencer::admit(Member self) {
  CO_TRY_VOID(co_await leave(false));
  CO_TRY_VOID(locks_.take(key_of(self)));
  self_ = self;
  co_return Result<>{};
}

Task<Result<>> LifeFencer::fence(Member victim) {
  CO_TRY(const bool lives, locks_.taken_by_another(key_of(victim)));
  if (lives)
    co_return fail_device(EBUSY, "its process on this host still has the volume open: end that process (SIGKILL)");
  co_return Result<>{};
}

Task<Result<>> LifeFencer::leave(bool) {
  if (!self_.incarnation) co_return Result<>{};
  CO_TRY_VOID(locks_.give_up(key_of(self_)));
  self_ = {};
  co_return Result<>{};
}

}  // namespace corral
