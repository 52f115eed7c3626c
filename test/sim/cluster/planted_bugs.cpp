#include "test/sim/cluster/planted_bugs.h"

#include <algorithm>

#include "base/planted_bug.h"

namespace corral::sim {

std::vector<std::string_view> planted_bug_names() {
  return {kPlantedBugNames.begin() + 1, kPlantedBugNames.end()};
}

#if defined(CORRAL_PLANT_BUGS)
bool can_plant_bugs() {
  return true;
}

Result<> plant_bug(std::string_view name) {
  const auto found = std::ranges::find(kPlantedBugNames, name);
  if (found == kPlantedBugNames.end()) return fail(EINVAL, "there is no bug {} to plant", name);
  planted_bug = static_cast<PlantedBug>(found - kPlantedBugNames.begin());
  return {};
}
#else
bool can_plant_bugs() {
  return false;
}

Result<> plant_bug(std::string_view) {
  return fail(EOPNOTSUPP, "this program has no bugs planted: configure with -DCORRAL_PLANT_BUGS=ON");
}
#endif

}  // namespace corral::sim
