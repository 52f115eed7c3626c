/// Starting another program of the host. What becomes of it is the caller's to watch.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include <sys/types.h>

#include "base/result.h"

namespace corral {

/// All signals are as they are by default.
struct ProcessStart {
  std::vector<std::string> arguments{};                   ///< after the program's own name
  std::optional<std::vector<std::string>> environment{};  ///< "NAME=text"; none: that of this process
  int input = -1;                                         ///< becomes standard input
  std::optional<int> output{};                            ///< becomes standard output and standard error; none: as here
  bool own_group = false;                                 ///< in a process group of its own
};

/// The new process. Errors name the path.
Result<pid_t> start_process(const std::string& path, const ProcessStart& how);

}  // namespace corral
