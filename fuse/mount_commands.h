/// What a mount does for an administrator: work on the volume that nobody but the mount can do while it is mounted. A
/// running mount is asked through its control socket; for a volume that is not mounted the programs make a mount of
/// their own and ask that. Figures are bytes unless a name says otherwise.
///
///     trim          "start", "length", "minimum" (default: everything)
///                   ->  "bytes_trimmed"
///     quota-report  ->  "block_size", "quota" (the mount's option), "records": [{"kind": "user" or "group", "id",
///                       "used_blocks", "limit_blocks", "warn_blocks"}]
///     quota-set     "kind", "id", "limit", "warn" (0: none; not given: stays as it is)
///                   ->  "limit_blocks", "warn_blocks" as they are now
///     grow          "dry_run"
///                   ->  "block_size", "groups", "blocks" (that are added), "total_blocks", "spare_blocks"
///     freeze        "timeout_ms" (default: a minute)
///                   ->  "changed"; false where it was frozen already, with "message"
///     thaw          ->  "changed"; false where it was not frozen, with "message"
///
/// Each may wait for locks, the disk and the journal like any request of the kernel's. Where the client goes away, or
/// the mount ends or is lost, a command ends at its next step with ECANCELED; what it has done until then stays, and is
/// whole: every step is a transaction of its own, or nothing that the volume could lose. One thread.
#pragma once

#include <stop_token>
#include <string>

#include <nlohmann/json_fwd.hpp>

#include "base/result.h"
#include "base/sync.h"
#include "base/task.h"
#include "fs/filesystem.h"

namespace corral {

class MountCommands {
 public:
  /// `directory` is for messages. The filesystem outlives it.
  MountCommands(Filesystem& filesystem, std::string directory);

  /// True if the request is for one of these commands.
  static bool knows(const nlohmann::json& request);
  /// EINVAL for a field that makes no sense, ECANCELED as above, and what the work fails with.
  Task<Result<nlohmann::json>> run(nlohmann::json request, std::stop_token stop);
  /// Takes no more commands (ECANCELED), asks those that run to stop, and returns when they have.
  Task<void> end();

 private:
  Task<Result<nlohmann::json>> dispatch(const nlohmann::json& request, std::stop_token stop);
  Task<Result<nlohmann::json>> trim(const nlohmann::json& request, std::stop_token stop);
  Task<Result<nlohmann::json>> report_quotas();
  Task<Result<nlohmann::json>> set_quota(const nlohmann::json& request);
  Task<Result<nlohmann::json>> grow(const nlohmann::json& request, std::stop_token stop);
  Task<Result<nlohmann::json>> freeze(const nlohmann::json& request, std::stop_token stop);
  Task<Result<nlohmann::json>> thaw();

  Filesystem& filesystem_;
  std::string directory_;
  std::stop_source ending_;
  Gate gate_;
};

}  // namespace corral
