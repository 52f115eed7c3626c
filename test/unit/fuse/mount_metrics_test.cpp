#include "fuse/mount_metrics.h"

#include <nlohmann/json.hpp>

#include "test/support/catch.h"

using namespace corral;
using nlohmann::json;

TEST_CASE("a node that was lost is no member") {
  CHECK(open_metrics_of_lost_life() == R"(# TYPE corral_member gauge
# HELP corral_member 1 while the node is a member of its cluster
corral_member 0
# TYPE corral_serving gauge
# HELP corral_serving 1 while the node's lease holds
corral_serving 0
# EOF
)");
}

TEST_CASE("a report becomes metrics") {
  const json status = {{"device", "/dev/sdb"},
                       {"directory", "/a \"b\"\\c"},
                       {"lock_table", "my-cluster:storage"},
                       {"lock_protocol", "lock_corral"},
                       {"withdrawn", false},
                       {"cluster", {{"member", true}, {"view", 7}, {"slot", 2}, {"not_recovered", {4, 5}}}}};
  const json counters = {
      {"errors", 3},
      {"running", 1},
      {"glocks", {{"hits", 10}}},
      {"requests", {{"READ", {{"count", 3}, {"total_us", 1500}, {"latency_log2_us", {0, 2, 0, 1}}}}}}};
  CHECK(open_metrics(status, counters) == R"(# TYPE corral_mount info
# HELP corral_mount The mount
corral_mount_info{device="/dev/sdb",directory="/a \"b\"\\c",lock_table="my-cluster:storage",lock_protocol="lock_corral"} 1
# TYPE corral_withdrawn gauge
# HELP corral_withdrawn 1 if the mount has withdrawn: it serves nothing until it is mounted anew
corral_withdrawn 0
# TYPE corral_member gauge
# HELP corral_member 1 while the node is a member of its cluster
corral_member 1
# TYPE corral_view gauge
# HELP corral_view Number of the view
corral_view 7
# TYPE corral_slot gauge
# HELP corral_slot Number of the node's slot and journal
corral_slot 2
# TYPE corral_nodes_not_recovered gauge
# HELP corral_nodes_not_recovered Dead nodes whose journals are not replayed yet
corral_nodes_not_recovered 2
# TYPE corral_requests_running gauge
# HELP corral_requests_running Requests of the kernel that are under way
corral_requests_running 1
# TYPE corral_errors counter
# HELP corral_errors Requests that were answered with an error
corral_errors_total 3
# TYPE corral_glock_hits counter
# HELP corral_glock_hits Glocks that were held already when an operation wanted them
corral_glock_hits_total 10
# TYPE corral_request_seconds histogram
# HELP corral_request_seconds How long requests of the kernel took, by kind
corral_request_seconds_bucket{kind="READ",le="1e-06"} 0
corral_request_seconds_bucket{kind="READ",le="2e-06"} 2
corral_request_seconds_bucket{kind="READ",le="4e-06"} 2
corral_request_seconds_bucket{kind="READ",le="8e-06"} 3
corral_request_seconds_bucket{kind="READ",le="+Inf"} 3
corral_request_seconds_count{kind="READ"} 3
corral_request_seconds_sum{kind="READ"} 0.0015
# EOF
)");
}
