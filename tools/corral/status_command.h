/// corral status [--json] [-w] [DEVICE|MOUNTPOINT]: who is in the cluster, read from the disk alone.
#pragma once

#include <string>

#include <CLI/CLI.hpp>

namespace corral {

/// Adds itself to the program; sets `status` when it has run: see status_exit (status_report.h). Of several mounts the
/// first that is not well decides.
class StatusCommand {
 public:
  StatusCommand(CLI::App& app, int& status);
  StatusCommand(const StatusCommand&) = delete;
  StatusCommand& operator=(const StatusCommand&) = delete;

 private:
  int run() const;
  int show() const;

  std::string target_;
  bool json_ = false;
  bool watch_ = false;
  double interval_seconds_ = 2;
  double timeout_seconds_ = 10;
};

}  // namespace corral
