/// What a running mount tells of itself through its control socket: who it is in the cluster, who waits for which lock,
/// and what it has done so far. From memory alone; nothing here waits or asks anybody.
///
///     status     the mount, its membership, and whether it has withdrawn, and why
///     locks      the lock manager's resources that somebody waits for (with "all": all that this node knows), and the
///                glocks of this mount that are on their way
///     counters   requests by kind with their latencies, and the work of glocks, locks, journal and cache, since the
///                mount began
#pragma once

#include <string>

#include <nlohmann/json_fwd.hpp>

#include "base/result.h"
#include "fs/filesystem.h"
#include "fuse/front.h"
#include "node/cluster_node.h"

namespace corral {

class MountReport {
 public:
  /// What there is to tell of; all outlives the report. No node: a lock_nolock mount.
  struct Parts {
    std::string device;
    std::string directory;
    Filesystem& filesystem;
    const Front& front;
    const ClusterNode* node = nullptr;
  };
  explicit MountReport(Parts parts) : parts_(std::move(parts)) {}

  /// EINVAL for a command that there is not.
  Result<nlohmann::json> answer(const nlohmann::json& request) const;
  nlohmann::json status() const;
  nlohmann::json counters() const;

 private:
  nlohmann::json frozen() const;
  nlohmann::json membership() const;
  nlohmann::json locks(bool all) const;

  Parts parts_;
};

}  // namespace corral
