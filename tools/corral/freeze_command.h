/// corral freeze [-t SECONDS] [--json] MOUNTPOINT, corral thaw [--json] MOUNTPOINT: keeps all nodes from changing a
/// volume while its device is copied.
#pragma once

#include <cstdint>
#include <string>

#include <CLI/CLI.hpp>

namespace corral {

/// Adds itself to the program; sets `status` when it has run: 0 frozen; 1 it was frozen already; 8 it could not be
/// done.
class FreezeCommand {
 public:
  FreezeCommand(CLI::App& app, int& status);
  FreezeCommand(const FreezeCommand&) = delete;
  FreezeCommand& operator=(const FreezeCommand&) = delete;

 private:
  int run() const;

  std::string target_;
  std::uint32_t timeout_seconds_ = 60;
  bool json_ = false;
};

/// The same: 0 thawed; 1 it was not frozen; 8 it could not be done.
class ThawCommand {
 public:
  ThawCommand(CLI::App& app, int& status);
  ThawCommand(const ThawCommand&) = delete;
  ThawCommand& operator=(const ThawCommand&) = delete;

 private:
  int run() const;

  std::string target_;
  bool json_ = false;
};

}  // namespace corral
