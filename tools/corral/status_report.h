/// What `corral status` found, and how it is shown: to people as clustat and cman_tool do, and as JSON.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "cluster/observation.h"

namespace corral {

/// Exit codes of `corral status`.
namespace status_exit {
constexpr int kWell = 0;        ///< a quorate cluster lives; asked by mount point: and this mount is a member
constexpr int kNobody = 1;      ///< no node is alive on the volume
constexpr int kUsage = 2;       ///< the command line was wrong
constexpr int kNotMember = 3;   ///< this mount is no member (withdrawn, fenced, dead, or recovering)
constexpr int kNotQuorate = 4;  ///< nodes live, but have no quorum
constexpr int kNoAnswer = 5;    ///< the disk did not answer in time
constexpr int kFailed = 8;      ///< the state could not be found out
}  // namespace status_exit

enum class JournalState : std::uint8_t {
  in_use,  ///< of a node that is alive
  clean,
  dirty,    ///< to be replayed
  damaged,  ///< for fsck.corral
};
std::string_view name_of(JournalState state);

struct StatusReport {
  std::string device;
  std::string directory;  ///< where asked by mount point
  std::string lock_table;
  std::string lock_protocol;
  /// None on a volume without a cluster area.
  std::optional<cluster::Observation> cluster;
  std::vector<JournalState> journals;
  /// Members that are mounts of this host; `own`, where asked by mount point, is that mount's.
  std::vector<Member> local;
  std::optional<Member> own;
  /// The mount's own word (fuse/mount_report.h), or why there is none.
  nlohmann::json mount;
  std::string mount_error;

  int exit_code() const;
  nlohmann::json to_json() const;
  std::string text() const;

 private:
  bool mount_is_well() const;
};

}  // namespace corral
