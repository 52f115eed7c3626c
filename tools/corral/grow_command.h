/// corral grow [-T] [--json] MOUNTPOINT|DEVICE: makes a volume as large as its device.
#pragma once

#include <string>

#include <CLI/CLI.hpp>

namespace corral {

/// Adds itself to the program; sets `status` when it has run: 0 done, or there was nothing to add; 8 it could not be
/// done, or not to its end: give it again.
class GrowCommand {
 public:
  GrowCommand(CLI::App& app, int& status);
  GrowCommand(const GrowCommand&) = delete;
  GrowCommand& operator=(const GrowCommand&) = delete;

 private:
  int run() const;

  std::string target_;
  bool dry_run_ = false;
  bool json_ = false;
};

}  // namespace corral
