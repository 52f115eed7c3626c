#include "tools/fsck_corral/command_line.h"

#include <CLI/CLI.hpp>

namespace corral {

std::variant<FsckCommand, int> parse_fsck_command(int argc, char** argv) {
  FsckCommand command;
  CLI::App app("Checks and repairs a Corral or GFS2 volume that is not mounted.", "fsck.corral");
  app.set_version_flag("-V,--version", "fsck.corral " CORRAL_VERSION);
  bool preen = false;
  bool never = false;
  bool yes = false;
  bool quiet = false;
  int verbose = 0;
  auto* preen_flag = app.add_flag("-a,-p", preen, "Replay the journals; check the rest only if one was dirty");
  auto* never_flag = app.add_flag("-n", never, "Answer no: write nothing");
  auto* yes_flag = app.add_flag("-y", yes, "Answer yes: repair everything");
  app.add_flag("-f", command.force, "Check although the volume seems clean");
  app.add_flag("-q", quiet, "Say nothing but errors");
  app.add_flag("-v", verbose, "Say more");
  app.add_flag("--json", command.json, "Report as JSON on standard output; asks nothing");
  app.add_option("device", command.device, "Block device or image file")->required();
  never_flag->excludes(yes_flag)->excludes(preen_flag);
  yes_flag->excludes(preen_flag);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? fsck_exit::kClean : fsck_exit::kUsage;
  }
  command.preen = preen;
  command.verbosity = quiet ? -1 : verbose;
  if (never) command.mode = FsckCommand::Mode::never;
  if (yes || preen) command.mode = FsckCommand::Mode::yes;
  return command;
}

}  // namespace corral
