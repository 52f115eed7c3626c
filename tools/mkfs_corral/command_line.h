/// mkfs.corral's command line.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "base/result.h"
#include "disk/device.h"
#include "tools/mkfs/options.h"

namespace corral::mkfs {

/// What the user wants done.
struct CommandLine {
  std::string device;
  FormatOptions format;  ///< checked; uuid and now are set
  bool discard = true;
  bool override_contents = false;  ///< do not ask, do not refuse: what is on the device goes
  bool quiet = false;
  bool debug = false;
  std::optional<DeviceGeometry> test_topology;  ///< in place of the I/O sizes that the device reports
};

/// Nothing is left to do (help, version) or nothing can be done (wrong usage, already told): the exit code.
using ExitCode = int;

/// `now` and a fresh UUID become part of the options.
std::variant<CommandLine, ExitCode> parse_command_line(int argc, const char* const* argv, WallTime now);

/// The comma-separated list of -o. EINVAL with a message for what is not known or has a bad value.
Result<> apply_extended_options(std::string_view list, CommandLine& command);

/// Help for -o.
std::string_view extended_options_help();

}  // namespace corral::mkfs
