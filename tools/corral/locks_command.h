/// corral locks [-ap] [--json] MOUNTPOINT: who waits for which lock, and who holds it.
#pragma once

#include <string>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

namespace corral {

/// Adds itself to the program; sets `status` when it has run: 0 done, 8 the mount could not be asked.
class LocksCommand {
 public:
  LocksCommand(CLI::App& app, int& status);
  LocksCommand(const LocksCommand&) = delete;
  LocksCommand& operator=(const LocksCommand&) = delete;

  /// An answer of the mount (fuse/mount_report.h) as people read it.
  static std::string text(const nlohmann::json& answer);

 private:
  int run() const;
  std::string directory_;
  bool all_ = false;
  bool paths_ = false;
  bool json_ = false;
};

}  // namespace corral
