/// Runs programs for tests that look at whole programs from outside.
#pragma once

#include <array>
#include <cstdio>
#include <string>

#include <sys/wait.h>

#include "base/check.h"

namespace corral::test {

struct CommandResult {
  int exit_code;       ///< 128 + signal if one ended it
  std::string output;  ///< stdout and stderr together
};

/// Runs a shell command with an empty standard input.
inline CommandResult run_command(const std::string& command) {
  std::FILE* pipe = ::popen(("{ " + command + "; } 2>&1 < /dev/null").c_str(), "r");
  CHECK_INVARIANT(pipe != nullptr);
  CommandResult result{};
  std::array<char, 4096> part;
  while (std::size_t bytes = std::fread(part.data(), 1, part.size(), pipe))
    result.output.append(part.data(), bytes);
  const int status = ::pclose(pipe);
  result.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return result;
}

}  // namespace corral::test
