/// corral top [--once] [MOUNTPOINT]: what a mount does, as rates per second.
#pragma once

#include <optional>
#include <string>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

namespace corral {

/// Adds itself to the program; sets `status` when it has run: 0 done, 8 a mount could not be asked.
class TopCommand {
 public:
  TopCommand(CLI::App& app, int& status);
  TopCommand(const TopCommand&) = delete;
  TopCommand& operator=(const TopCommand&) = delete;

  /// Two answers to "counters" (fuse/mount_report.h), the later one second, as people read them.
  static std::string text(const std::string& directory, const nlohmann::json& before, const nlohmann::json& after);

 private:
  int run() const;
  std::string directory_;
  bool once_ = false;
  double interval_seconds_ = 1;
};

}  // namespace corral
