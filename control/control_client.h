/// Asks a running mount through its control socket (control_socket.h).
#pragma once

#include <chrono>
#include <string>

#include <nlohmann/json.hpp>

#include "base/result.h"

namespace corral {

/// Sends one request and returns the answer, without its "ok". Blocks, but no longer than `limit` for each step.
/// Errors: ENOENT or ECONNREFUSED where no process serves the mount any more, ETIMEDOUT where it does not answer (it
/// hangs, or is stopped), EPROTO where the answer makes no sense, EINVAL with the mount's own words where it refuses.
Result<nlohmann::json> ask_mount(const std::string& socket_path, const nlohmann::json& request,
                                 std::chrono::milliseconds limit);

/// The same for a request whose answer takes its time: waits for it for as long as the mount's process answers other
/// questions within `limit`. Ending this process takes the request back.
Result<nlohmann::json> command_mount(const std::string& socket_path, const nlohmann::json& request,
                                     std::chrono::milliseconds limit);

}  // namespace corral
