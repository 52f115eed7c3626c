/// What a node needs of its host: kernel, FUSE, io_uring, the mount helper, a clock, a name, hooks.
#pragma once

#include <string>
#include <string_view>
#include <utility>

#include "tools/doctor/finding.h"

namespace corral::doctor {

/// Where things stand on the host; other folders in tests.
struct HostFolders {
  std::string proc = "/proc";
  std::string sys = "/sys";
  std::string dev = "/dev";
  std::string helper = "/sbin/mount.corral";
  std::string hooks{};  ///< of events
};

/// Major and minor number of a kernel's release such as "6.1.0-13-amd64"; 0 and 0 where it is none.
std::pair<unsigned, unsigned> parse_release(std::string_view release);

void check_kernel(const HostFolders& folders, Findings& findings);
void check_fuse(const HostFolders& folders, Findings& findings);
void check_helper(const HostFolders& folders, Findings& findings);
/// The sysctl, and whether a ring can be made; with kernels before 5.12 the limit of locked memory.
void check_io_uring(const HostFolders& folders, Findings& findings);
/// Files of the folder of events that are not run, or that others than root can change.
void check_hooks(const HostFolders& folders, Findings& findings);
/// Whether somebody keeps the clock right (adjtimex). Corral's membership uses no wall clock; times of files do.
void check_clock(Findings& findings);
/// The host's name must be one that a slot can carry.
void check_host_name(Findings& findings);

}  // namespace corral::doctor
