/// Checks that may hang, each in a process of its own: what a disk or a network does not answer cannot be taken back,
/// and the other checks are to go on.
#pragma once

#include <functional>
#include <optional>

#include <nlohmann/json.hpp>

#include "base/clock.h"

namespace corral::doctor {

/// Runs `work` in a child process and gives what it returned; nothing where it did not within `limit`, or died. The
/// child is killed then; one that waits for a disk in the kernel lives on until the disk answers. To be called while
/// this process has one thread.
std::optional<nlohmann::json> run_bounded(Duration limit, const std::function<nlohmann::json()>& work);

}  // namespace corral::doctor
