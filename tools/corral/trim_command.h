/// corral trim [-o OFFSET] [-l LENGTH] [-m MINIMUM] [--json] MOUNTPOINT|DEVICE: tells the disk which blocks are free.
#pragma once

#include <cstdint>
#include <limits>
#include <string>

#include <CLI/CLI.hpp>

namespace corral {

/// Adds itself to the program; sets `status` when it has run: 0 done, 8 it could not be done, or not to its end.
class TrimCommand {
 public:
  TrimCommand(CLI::App& app, int& status);
  TrimCommand(const TrimCommand&) = delete;
  TrimCommand& operator=(const TrimCommand&) = delete;

 private:
  int run() const;

  std::string target_;
  std::uint64_t offset_ = 0;
  std::uint64_t length_ = std::numeric_limits<std::uint64_t>::max();
  std::uint64_t minimum_ = 0;
  bool json_ = false;
};

}  // namespace corral
