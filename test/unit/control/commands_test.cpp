// What the programs make of a mount's answers and of the kernel's list of mounts.
#include "test/support/catch.h"
#include "tools/corral/locks_command.h"
#include "tools/corral/mounts.h"
#include "tools/corral/top_command.h"

using namespace corral;
using nlohmann::json;

TEST_CASE("mounts are found in the kernel's list, whatever their names") {
  const std::string text =
      "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
      "40 22 7:3 / /my\\040data\\134x rw,nosuid shared:9 master:2 - fuseblk.corral /dev/sdb rw,user_id=0\n"
      "41 22 0:55 / /plain rw - fuse.corral iscsi://host/target/1 rw\n"
      "42 22 0:56 / /other rw - fuse.sshfs host: rw\n"
      "43 22 nonsense / /bad rw - fuse.corral x rw\n"
      "44 22 0:57\n";
  const std::vector<CorralMount> mounts = parse_mounts(text);
  REQUIRE(mounts.size() == 2);
  CHECK(mounts[0].directory == "/my data\\x");
  CHECK(mounts[0].device == "/dev/sdb");
  CHECK(mounts[0].device_major == 7);
  CHECK(mounts[0].device_minor == 3);
  CHECK(mounts[1].device == "iscsi://host/target/1");
}

TEST_CASE("locks are told with names of nodes, and who is in whose way") {
  const json answer = json::parse(R"({
    "names": {"0": "alpha", "1": "beta"},
    "resources": [
      {"lockspace": "glock", "resource": "1:2/805c", "type": "inode", "number": 32860, "master": 0, "blocked_by": [2],
       "locks": [
         {"slot": 1, "lock": 7, "granted": "EX", "requested": null, "for_ms": 5000, "waits_for": []},
         {"slot": 0, "lock": 9, "granted": null, "requested": "PR", "for_ms": 1234,
          "waits_for": [{"slot": 1, "lock": 7}]}],
       "ranges": []},
      {"lockspace": "fcntl", "resource": "2:x", "master": null, "blocked_by": [], "locks": [],
       "ranges": [{"slot": 0, "owner": 1, "process": 31, "mode": "write", "first": 0, "last": 9, "waiting": true,
                   "for_ms": 500, "waits_for": [{"slot": 1, "owner": 3}]}]}],
    "glocks_waited_for": ["inode 5: waited for"]})");
  CHECK(LocksCommand::text(answer) ==
        "inode 32860 (glock), master alpha, blocked until the journal of node 2 is replayed\n"
        "    beta                 has EX\n"
        "    alpha                wants PR, for 1.234 s, behind beta\n"
        "2:x (fcntl), master not known\n"
        "    alpha                process 31 wants write lock on bytes 0 to 9, for 0.500 s, behind beta\n"
        "Glocks of this mount that are on their way:\n"
        "    inode 5: waited for\n");
  CHECK(LocksCommand::text(json::object()) == "Nobody waits for a lock.\n");
}

TEST_CASE("rates are of the time between two answers") {
  const json before = json::parse(R"({"time_us": 1000000, "running": 0, "bytes_read": 0, "errors": 0,
    "requests": {"READ": {"count": 10, "total_us": 100, "latency_log2_us": [10]}}, "glocks": {"hits": 5}})");
  const json after = json::parse(R"({"time_us": 3000000, "running": 4, "bytes_read": 4194304, "errors": 2,
    "requests": {"READ": {"count": 30, "total_us": 1100, "latency_log2_us": [10, 0, 0, 19, 0, 0, 1]},
                 "WRITE": {"count": 2, "total_us": 8, "latency_log2_us": [0, 0, 0, 2]}},
    "glocks": {"hits": 25, "held": 3}, "journal": {"flushes": 6}})");
  const std::string text = TopCommand::text("/mydata", before, after);
  INFO(text);
  CHECK(text.starts_with("/mydata: 4 requests under way, read 2.0 MiB/s, written 0.0 MiB/s, 1.0 errors/s\n"));
  CHECK(text.find("Glocks   3 in memory; per s: 10.0 hits, 0.0 waits") != std::string::npos);
  CHECK(text.find("3.0 commits") != std::string::npos);
  CHECK(text.find("Locks ") == std::string::npos);
  CHECK(text.find("  READ                       10.0         50.0           64\n") != std::string::npos);
  CHECK(text.find("READ ") < text.find("WRITE"));
}
