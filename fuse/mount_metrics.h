/// A mount's report (mount_report.h) in OpenMetrics' text format. Pure.
///
/// Every family begins with corral_ and is described where it is made; docs/operations.md lists what to watch.
#pragma once

#include <string>

#include <nlohmann/json_fwd.hpp>

namespace corral {

/// From the answers to "status" and "counters".
std::string open_metrics(const nlohmann::json& status, const nlohmann::json& counters);

}  // namespace corral
