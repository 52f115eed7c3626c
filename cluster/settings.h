/// The cluster's settings as operators name and write them.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "cluster/area_format.h"

namespace corral::cluster {

/// Every setting with its value, in the order in which they are shown: "failure-timeout" ("5s", "1500ms"), "quorum"
/// ("last-man-standing", "majority"), "port", "fence" ("scsi-pr", "agent:fence_ipmilan", "manual") and
/// "fence-agent-options" ("ipaddr={node}-bmc login=admin"; may be empty).
std::vector<std::pair<std::string, std::string>> describe_settings(const Settings& settings);

/// The settings with one changed. EINVAL with what is allowed for an unknown name or a value that does not fit.
Result<Settings> with_setting(Settings settings, std::string_view name, std::string_view value);

/// In a value of the fence agent's options it stands for the name of the node that is to be fenced.
constexpr std::string_view kNodePlaceholder = "{node}";
/// The agent's options that name that node.
constexpr std::array<std::string_view, 3> kNodeOptions{"plug", "port", "nodename"};
/// The words of "fence-agent-options", each "key=value".
std::vector<std::string_view> agent_options(std::string_view options);

}  // namespace corral::cluster
