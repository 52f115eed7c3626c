/// What one run is like: which faults strike, how the nodes are equipped, what their clients do. Drawn from the seed,
/// so that each run has other features switched on (swarm testing: a run with few features goes deeper into them).
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/random.h"
#include "base/result.h"
#include "disk/simulated_device.h"
#include "fs/mount_options.h"

namespace corral::sim {

enum class FaultKind : std::uint8_t {
  kill,                ///< a process dies; its host resets its connections
  power_off,           ///< a host dies: silence
  pause,               ///< a node stands still for a while
  split,               ///< nodes do not hear each other, in both directions
  one_way,             ///< in one direction only
  broken_connection,   ///< of two nodes, once
  slow_connection,     ///< of two nodes, for a while
  stuck_path,          ///< a node's commands to the disk do not arrive, then all at once
  lingering_commands,  ///< they arrive and take long
  failing_path,        ///< they fail
  read_errors,         ///< a few reads fail
  write_errors,        ///< a few writes fail
  lost_registrations,  ///< the target restarts and knows no keys any more
  rack_power,          ///< disk and nodes lose power at the same time
  leave,               ///< a node unmounts, and mounts again
};
inline constexpr std::size_t kFaultKinds = 15;
std::string_view name_of(FaultKind kind);

enum class Deed : std::uint8_t {
  read,
  read_size,
  write,
  append,
  truncate,
  sync_file,
  create,
  remove,
  lookup,
  list,
  move,
  move_across,
  exchange,
  link,
  use_found,   ///< looks a name up and works on what it leads to
  use_orphan,  ///< removes a name and works on the file for a while
  sync_directory,
  sync_all,
  big_file,      ///< of its own: written, read back, removed
  many_files,    ///< of its own: made and removed in a row
  private_tree,  ///< every kind of operation in a directory of its own
  freeze,        ///< freezes the volume, looks at what a copy would be, thaws it again
};
inline constexpr std::size_t kDeeds = 22;

struct Swarm {
  std::vector<FaultKind> faults;
  Duration between_faults{};
  std::uint32_t failure_timeout_ms = 5000;
  bool target_has_abort = true;
  bool persisting_registrations = true;
  SimulatedDeviceOptions device = SimulatedDeviceOptions::realistic();
  Duration network_latency_most{};
  std::int64_t drift_ppm_most = 0;
  MountOptions mount;

  std::array<std::uint32_t, kDeeds> weights{};
  std::uint32_t clients = 2;  ///< of each node
  Duration pause_most{};      ///< of a client between bursts
  std::uint32_t names = 8;    ///< of each directory
  std::uint32_t files = 4;

  std::string describe() const;
};

/// Scenarios by name: "any" (all of it by chance), "calm" (no faults), "mixed" (no faults, an even load: for
/// measuring), "deaths", "network", "disk", "power". EINVAL for another name.
Result<Swarm> draw_swarm(std::string_view scenario, Random& random);

}  // namespace corral::sim
