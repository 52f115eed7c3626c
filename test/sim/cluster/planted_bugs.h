/// Which bug is planted in this process (base/planted_bug.h).
#pragma once

#include <string_view>
#include <vector>

#include "base/result.h"

namespace corral::sim {

/// False where this program was built without CORRAL_PLANT_BUGS.
bool can_plant_bugs();
/// EOPNOTSUPP where it cannot, EINVAL for a name that no bug has.
Result<> plant_bug(std::string_view name);
/// All names but "none".
std::vector<std::string_view> planted_bug_names();

}  // namespace corral::sim
