/// The additional groups of a process that made a request: the kernel does not tell them with the request.
#pragma once

#include <cstdint>
#include <string_view>

#include "fs/operations.h"

namespace corral {

/// Looks at /proc/PID/status of the caller, which waits for its answer meanwhile. False also if it cannot be seen
/// (another namespace of processes, a signal that ended it).
bool in_additional_groups(const Caller& caller, std::uint32_t gid);

/// Whether the line "Groups:" of such a status has the group.
bool status_has_group(std::string_view status, std::uint32_t gid);

}  // namespace corral
