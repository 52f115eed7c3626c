// corral: the administrator's commands.
#include <cstdio>
#include <memory>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "tools/corral/doctor_command.h"
#include "tools/corral/fence_command.h"
#include "tools/corral/freeze_command.h"
#include "tools/corral/grow_command.h"
#include "tools/corral/help_formatter.h"
#include "tools/corral/image_command.h"
#include "tools/corral/inspect_commands.h"
#include "tools/corral/locks_command.h"
#include "tools/corral/node_command.h"
#include "tools/corral/quota_command.h"
#include "tools/corral/replay_command.h"
#include "tools/corral/status_command.h"
#include "tools/corral/top_command.h"
#include "tools/corral/trim_command.h"
#include "tools/corral/tune_command.h"
#include "tools/corral/volume_commands.h"

int main(int argc, char** argv) {
  CLI::App app("Looks after Corral volumes.", "corral");
  app.formatter(std::make_shared<corral::HelpFormatter>());
  app.set_version_flag("--version,-V", "corral " CORRAL_VERSION);
  app.require_subcommand(1);
  int status = 0;
  corral::StatusCommand cluster_status(app, status);
  corral::LocksCommand locks(app, status);
  corral::TopCommand top(app, status);
  corral::DfCommand df(app, status);
  corral::JournalsCommand journals(app, status);
  corral::DumpCommand dump(app, status);
  corral::ImageCommand image(app, status);
  corral::TrimCommand trim(app, status);
  corral::QuotaCommand quota(app, status);
  corral::GrowCommand grow(app, status);
  corral::FreezeCommand freeze(app, status);
  corral::ThawCommand thaw(app, status);
  corral::ReplayCommand replay(app, status);
  corral::AdoptCommand adopt(app, status);
  corral::ReleaseCommand release(app, status);
  corral::TuneCommand tune(app, status);
  corral::ConfigCommand config(app, status);
  corral::FenceCommand fence(app, status);
  corral::NodeCommand node(app, status);
  corral::DoctorCommand doctor(app, status);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    // --help and --version end here too, with 0.
    return app.exit(error) == 0 ? 0 : 2;
  }
  return status;
}
