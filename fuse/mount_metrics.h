/// A mount's report (mount_report.h) in OpenMetrics' text format. Pure.
///
/// Every family begins with corral_ and is described where it is made; docs/operations.md lists what to watch.
#pragma once

#include <string>

#include <nlohmann/json_fwd.hpp>

namespace corral {

/// From the answers to "status" and "counters".
std::string open_metrics(const nlohmann::json& status, const nlohmann::json& counters);
/// While a node that the cluster has lost is on its way back: there is nothing else to tell.
std::string open_metrics_of_lost_life();

}  // namespace corral
