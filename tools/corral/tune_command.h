/// corral tune [-t CLUSTER:NAME] [-U UUID] [-p PROTOCOL] DEVICE: changes the superblock of a volume that is not
/// mounted.
#pragma once

#include <optional>
#include <string>

#include <CLI/CLI.hpp>

#include "base/result.h"
#include "tools/adopt/superblock.h"

namespace corral {

/// Adds itself to the program; sets `status` when it has run: 0 done, 2 called wrongly, 8 it could not be done (nothing
/// was changed).
class TuneCommand {
 public:
  TuneCommand(CLI::App& app, int& status);
  TuneCommand(const TuneCommand&) = delete;
  TuneCommand& operator=(const TuneCommand&) = delete;

 private:
  int run() const;
  Result<SuperblockChange> wanted() const;
  std::string device_;
  std::string lock_table_;
  std::string protocol_;
  std::string uuid_;
};

}  // namespace corral
