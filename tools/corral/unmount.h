/// Unmounting with a deadline, and who is in the way.
#pragma once

#include <string>

#include "base/clock.h"
#include "base/result.h"

namespace corral {

/// Unmounts what is mounted at the directory, in order. EBUSY with the processes that use it, as far as they can be
/// seen; ETIMEDOUT: the kernel or the mount's process has not answered within the limit, and the unmounting goes on.
Result<> unmount_within(const std::string& directory, Duration limit);

}  // namespace corral
