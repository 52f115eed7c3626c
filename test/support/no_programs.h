/// A host without programs.
#pragma once

#include "disk/program_runner.h"

namespace corral::test {

class NoPrograms final : public ProgramRunner {
 public:
  Task<Result<std::string>> find(std::string name) override { co_return fail(ENOENT, "there is no program {}", name); }
  Task<Result<ProgramRun>> run(std::string path, std::string, Duration) override {
    co_return fail(ENOENT, "{}: no such program", path);
  }
};

}  // namespace corral::test
