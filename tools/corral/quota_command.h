/// corral quota report|check|set: who uses how much of a volume, and how much they may.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "base/result.h"
#include "fs/quota_changes.h"
#include "tools/corral/quota_check.h"

namespace corral {

/// Adds itself to the program; sets `status` when it has run: 0 done; check: usage is right, or was mended; 1 check:
/// usage is wrong; 2 the command line was wrong; 8 it could not be done.
class QuotaCommand {
 public:
  QuotaCommand(CLI::App& app, int& status);
  QuotaCommand(const QuotaCommand&) = delete;
  QuotaCommand& operator=(const QuotaCommand&) = delete;

  /// An answer of the mount (fuse/mount_commands.h) as people read it.
  static std::string text(const nlohmann::json& answer);

 private:
  int report() const;
  int set() const;
  int check() const;
  struct Checked {
    std::uint32_t block_size = 0;
    std::vector<QuotaDifference> differences;
  };
  Result<Checked> check_volume() const;

  std::string target_;
  std::string kind_;
  std::string who_;
  std::optional<std::uint64_t> limit_;
  std::optional<std::uint64_t> warn_;
  bool mend_ = false;
  bool json_ = false;
};

}  // namespace corral
