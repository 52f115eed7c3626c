/// Programs of the host as child processes, watched by the event loop: see program_runner.h.
///
/// They are started with a usual PATH, the C locale and nothing else of this process's environment, and with a process
/// group of their own.
#pragma once

#include <string>
#include <vector>

#include <sys/types.h>

#include "disk/event_loop.h"
#include "disk/program_runner.h"

namespace corral {

class SpawnedPrograms final : public ProgramRunner {
 public:
  /// `folders` are looked through in this order. The loop outlives it, and it all that wait for its programs.
  explicit SpawnedPrograms(EventLoop& loop,
                           std::vector<std::string> folders = {"/usr/sbin", "/usr/bin", "/sbin", "/bin"});
  ~SpawnedPrograms() override;
  SpawnedPrograms(const SpawnedPrograms&) = delete;
  SpawnedPrograms& operator=(const SpawnedPrograms&) = delete;

  Task<Result<std::string>> find(std::string name) override;
  Task<Result<ProgramRun>> run(std::string path, std::string input, Duration limit) override;

 private:
  class Child;
  void reap();

  EventLoop& loop_;
  std::vector<std::string> folders_;
  std::vector<pid_t> killed_;  ///< and not seen to have ended yet
};

}  // namespace corral
