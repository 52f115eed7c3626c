/// What a recovery took, phase by phase, for people and for programs: one JSON object in the log, and for the hooks
/// (fuse/event_hooks.h).
///
///     suspicion      from the last heartbeat to its being late
///     decision       from there to the command to fence
///     fence          until the disk had removed the key and that was read back
///     verify         until the node was known to be gone, silent until its lease had run out, and the others agreed on
///                    a view without it
///     lock_recovery  until the lock manager ran in that view
///     replay         waiting for the journal's lock, and the replay
///     release        until its slot was free and its locks were given on
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/clock.h"
#include "cluster/membership.h"
#include "journal/replay.h"

namespace corral {

/// Of one dead node, as this node has seen and done it. What it has not seen stays empty.
struct RecoveryReport {
  std::string name;                              ///< as its slot said
  std::optional<cluster::FencingTimes> fencing;  ///< by this node
  std::optional<Time> left_out;                  ///< of the view
  std::optional<Time> locks_running;
  std::optional<Time> replayed;  ///< by this node
  std::uint32_t blocks_found = 0;
  std::uint32_t blocks_replayed = 0;
  std::uint32_t revokes = 0;

  void note(const ReplayReport& replay, Time now);
};

/// The same for a recovery on every node: of the life that is recovered.
std::string recovery_id(Member dead);

/// A JSON object: event "recovered", id, the dead node's name and journal, who did it (`by`, names), the phases that
/// are known in ms, and what was replayed.
std::string describe_recovery(const RecoveryReport& report, Member dead, const std::string& by, Time released);

/// A JSON object of another event: "join", "leave", "fenced", "withdrawn". `detail` may be empty.
std::string describe_event(const std::string& event, Member about, const std::string& name, const std::string& by,
                           const std::string& detail);

}  // namespace corral
