/// corral replay [-nl] [--journal N] [--json] DEVICE: replays the journals of a volume that is not mounted.
#pragma once

#include <optional>
#include <string>

#include <CLI/CLI.hpp>

namespace corral {

/// Adds itself to the program; sets `status` when it has run: 0 all journals are (or were) clean, 1 with -n: some are
/// dirty, 8 it could not be done.
class ReplayCommand {
 public:
  ReplayCommand(CLI::App& app, int& status);
  ReplayCommand(const ReplayCommand&) = delete;
  ReplayCommand& operator=(const ReplayCommand&) = delete;

 private:
  int run() const;

  std::string device_;
  bool dry_run_ = false;
  bool list_ = false;
  bool json_ = false;
  std::optional<std::uint32_t> journal_;
};

}  // namespace corral
