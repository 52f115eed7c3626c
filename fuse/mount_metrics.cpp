#include "fuse/mount_metrics.h"

#include <cmath>
#include <span>
#include <string_view>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace corral {

namespace {
using nlohmann::json;

/// A value of the report and the family that it becomes; `path` names it within the report ("/glocks/hits").
struct Family {
  const char* name;
  const char* path;
  const char* help;
};

constexpr Family kCounters[] = {
    {"corral_errors", "/errors", "Requests that were answered with an error"},
    {"corral_read_bytes", "/bytes_read", "Bytes of file data given to the kernel"},
    {"corral_written_bytes", "/bytes_written", "Bytes of file data taken from the kernel"},
    {"corral_glock_hits", "/glocks/hits", "Glocks that were held already when an operation wanted them"},
    {"corral_glock_waits", "/glocks/waits", "Operations that had to wait for a glock"},
    {"corral_glock_promotes", "/glocks/promotes", "Glocks asked of the lock manager"},
    {"corral_glock_demotes", "/glocks/demotes", "Glocks given up or weakened"},
    {"corral_glock_callbacks", "/glocks/callbacks", "Glocks that another node wanted"},
    {"corral_local_lock_operations", "/locks/local_operations", "Lock operations mastered on this node"},
    {"corral_remote_lock_operations", "/locks/remote_operations", "Lock operations that took messages"},
    {"corral_journal_transactions", "/journal/transactions", "Transactions"},
    {"corral_journal_commits", "/journal/flushes", "Log flushes, each of many transactions"},
    {"corral_device_flushes", "/journal/device_flushes", "Flushes of the device's cache"},
    {"corral_journal_logged_blocks", "/journal/logged_blocks", "Blocks written to the log"},
    {"corral_journal_revokes", "/journal/revokes", "Revokes written to the log"},
    {"corral_journal_written_in_place", "/journal/written_in_place", "Metadata blocks written to their places"},
    {"corral_journal_space_waits", "/journal/waits_for_space", "Transactions that waited for room in the log"},
};

constexpr Family kGauges[] = {
    {"corral_requests_running", "/running", "Requests of the kernel that are under way"},
    {"corral_glocks", "/glocks/held", "Glocks in memory"},
    {"corral_locks", "/locks/held", "Locks held of the lock manager"},
    {"corral_journal_free_blocks", "/journal/free_log_blocks", "Free blocks of the log"},
    {"corral_cache_bytes", "/cache/bytes", "Metadata in memory"},
    {"corral_cache_limit_bytes", "/cache/limit_bytes", "What metadata in memory is kept below"},
    {"corral_inodes_awake", "/inodes/awake", "Inodes in memory"},
    {"corral_inodes_resting", "/inodes/resting", "Inodes that only the kernel knows of"},
};

constexpr Family kStates[] = {
    {"corral_withdrawn", "/withdrawn", "1 if the mount has withdrawn: it serves nothing until it is mounted anew"},
    {"corral_member", "/cluster/member", "1 while the node is a member of its cluster"},
    {"corral_serving", "/cluster/serving", "1 while the node's lease holds"},
    {"corral_leader", "/cluster/leader", "1 if the node leads the view"},
    {"corral_view", "/cluster/view", "Number of the view"},
    {"corral_slot", "/cluster/slot", "Number of the node's slot and journal"},
};

/// Backslashes, quotes and line ends are written as OpenMetrics wants them in labels.
std::string label(std::string_view text) {
  std::string escaped;
  for (char character : text) {
    if (character == '\n') {
      escaped += "\\n";
      continue;
    }
    if (character == '\\' || character == '"') escaped += '\\';
    escaped += character;
  }
  return escaped;
}

void head(std::string& out, const char* name, const char* type, const char* help) {
  out += fmt::format("# TYPE {} {}\n# HELP {} {}\n", name, type, name, help);
}

void add_values(std::string& out, std::span<const Family> families, const char* type, const json& report) {
  const bool counts = std::string_view(type) == "counter";
  for (const Family& family : families) {
    const json::json_pointer path(family.path);
    if (!report.contains(path)) continue;
    const json& value = report.at(path);
    head(out, family.name, type, family.help);
    out += fmt::format("{}{} {}\n", family.name, counts ? "_total" : "",
                       value.is_boolean() ? std::to_string(static_cast<int>(value.get<bool>())) : value.dump());
  }
}

/// The report's buckets are powers of two of microseconds: bucket n counts what took less than 2^n us.
void add_latencies(std::string& out, const json& requests) {
  constexpr const char* kName = "corral_request_seconds";
  head(out, kName, "histogram", "How long requests of the kernel took, by kind");
  for (const auto& [kind, request] : requests.items()) {
    std::uint64_t sum = 0;
    int power = 0;
    for (const json& bucket : request.at("latency_log2_us")) {
      sum += bucket.get<std::uint64_t>();
      out += fmt::format("{}_bucket{{kind=\"{}\",le=\"{}\"}} {}\n", kName, label(kind), std::ldexp(1e-6, power++), sum);
    }
    out += fmt::format("{}_bucket{{kind=\"{}\",le=\"+Inf\"}} {}\n", kName, label(kind), sum);
    out += fmt::format("{}_count{{kind=\"{}\"}} {}\n", kName, label(kind), sum);
    out += fmt::format("{}_sum{{kind=\"{}\"}} {}\n", kName, label(kind), request.at("total_us").get<double>() / 1e6);
  }
}
}  // namespace

std::string open_metrics(const json& status, const json& counters) {
  std::string out;
  head(out, "corral_mount", "info", "The mount");
  out += fmt::format("corral_mount_info{{device=\"{}\",directory=\"{}\",lock_table=\"{}\",lock_protocol=\"{}\"}} 1\n",
                     label(status.at("device").get<std::string>()), label(status.at("directory").get<std::string>()),
                     label(status.at("lock_table").get<std::string>()),
                     label(status.at("lock_protocol").get<std::string>()));
  add_values(out, kStates, "gauge", status);
  const json::json_pointer unrecovered("/cluster/not_recovered");
  if (status.contains(unrecovered)) {
    head(out, "corral_nodes_not_recovered", "gauge", "Dead nodes whose journals are not replayed yet");
    out += fmt::format("corral_nodes_not_recovered {}\n", status.at(unrecovered).size());
  }
  add_values(out, kGauges, "gauge", counters);
  add_values(out, kCounters, "counter", counters);
  add_latencies(out, counters.at("requests"));
  out += "# EOF\n";
  return out;
}

std::string open_metrics_of_lost_life() {
  std::string out;
  add_values(out, kStates, "gauge", {{"cluster", {{"member", false}, {"serving", false}}}});
  return out + "# EOF\n";
}

}  // namespace corral
