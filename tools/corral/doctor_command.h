/// corral doctor [--json] DEVICE|MOUNTPOINT: what makes a node fail later, and what to do about it.
#pragma once

#include <string>

#include <CLI/CLI.hpp>

namespace corral {

/// Adds itself to the program; sets `status` when it has run: 0 all is well, 1 there are warnings, 2 the command line
/// was wrong, 3 there are problems.
class DoctorCommand {
 public:
  DoctorCommand(CLI::App& app, int& status);
  DoctorCommand(const DoctorCommand&) = delete;
  DoctorCommand& operator=(const DoctorCommand&) = delete;

 private:
  int run() const;
  std::string target_;
  bool json_ = false;
  bool quiet_ = false;
};

}  // namespace corral
