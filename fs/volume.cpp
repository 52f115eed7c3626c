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

}  // namespace corral
