/// The seam to other programs of the host, such as fence agents.
#pragma once

#include <string>

#include "base/result.h"
#include "base/task.h"

namespace corral {

/// How a program ended by itself.
struct ProgramRun {
  int exit_status = 0;
  std::string output;  ///< the first of what it wrote to standard output and standard error
};

class ProgramRunner {
 public:
  static constexpr std::size_t kMostInputBytes = 4096;
  static constexpr std::size_t kMostOutputBytes = 4096;

  virtual ~ProgramRunner() = default;
  /// The path of the program with that name, which has no '/', in the host's folders for programs. ENOENT.
  virtual Task<Result<std::string>> find(std::string name) = 0;
  /// Runs the program without arguments, with `input` (at most kMostInputBytes) on its standard input. ETIMEDOUT: it
  /// did not end within `limit` and was killed, with all that it had started; EIO: a signal ended it; others: it could
  /// not be started. Where the waiting frame is destroyed it is killed as well.
  virtual Task<Result<ProgramRun>> run(std::string path, std::string input, Duration limit) = 0;
};

}  // namespace corral
