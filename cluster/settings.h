/// The cluster's settings as operators name and write them.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "cluster/area_format.h"

namespace corral::cluster {

/// Every setting with its value, in the order in which they are shown: "failure-timeout" ("5s", "1500ms"), "quorum"
/// ("last-man-standing", "majority"), "port".
std::vector<std::pair<std::string, std::string>> describe_settings(const Settings& settings);

/// The settings with one changed. EINVAL with what is allowed for an unknown name or a value that does not fit.
Result<Settings> with_setting(Settings settings, std::string_view name, std::string_view value);

}  // namespace corral::cluster
