#include "tools/corral/replay_command.h"

#include <cstdio>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/log.h"
#include "cluster/sole_use.h"
#include "disk/event_loop.h"
#include "offline/journals.h"
#include "offline/totals.h"
#include "offline/volume_reader.h"

namespace corral {

namespace {

constexpr int kDirty = 1;
constexpr int kFailed = 8;

Task<Result<std::vector<OfflineReplay>>> replay(Executor& executor, Device& device, OfflineReplayOptions options,
                                                Logger log) {
  CO_TRY(VolumeReader reader, co_await VolumeReader::open(device));
  CO_TRY(auto replays, co_await replay_offline(executor, reader, options, log));
  // Of a journal alone they are left to whoever uses it next.
  if (!options.dry_run && !options.only) CO_TRY_VOID(co_await settle_totals(executor, reader, std::move(log)));
  co_return std::move(replays);
}

double milliseconds(Duration duration) {
  return std::chrono::duration<double, std::milli>(duration).count();
}

nlohmann::json to_json(const OfflineReplay& one) {
  nlohmann::json blocks = nlohmann::json::array();
  for (const LoggedBlock& block : one.report.plan.blocks)
    blocks.push_back(block.place.value);
  return {{"journal", one.journal.id.value},
          {"clean", one.report.head.clean()},
          {"replayed", one.report.replayed},
          {"blocks_found", one.report.plan.blocks.size()},
          {"blocks_replayed", one.report.plan.replayed_blocks},
          {"revokes", one.report.plan.revokes},
          {"blocks", std::move(blocks)},
          {"head_ms", milliseconds(one.report.times.head)},
          {"scan_ms", milliseconds(one.report.times.scan)},
          {"write_ms", milliseconds(one.report.times.write)}};
}

void print(const OfflineReplay& one, bool dry_run) {
  if (one.report.head.clean()) {
    fmt::print("journal {}: clean\n", one.journal.id.value);
    return;
  }
  fmt::print("journal {}: {} {} of {} blocks, {} revoke tags\n", one.journal.id.value,
             dry_run ? "would replay" : "replayed", one.report.plan.replayed_blocks, one.report.plan.blocks.size(),
             one.report.plan.revokes);
}

}  // namespace

ReplayCommand::ReplayCommand(CLI::App& app, int& status) {
  CLI::App* command = app.add_subcommand("replay", "Replay the journals of a volume that is not mounted");
  command->add_option("device", device_, "Block device, image file or iscsi://host[:port]/target/lun")->required();
  command->add_flag("-n,--dry-run", dry_run_, "Only say what would be replayed; exit status 1 if a journal is dirty");
  command->add_option("--journal", journal_, "Only this journal (0 is the first)");
  command->add_flag("--json", json_, "Report as JSON");
  command->callback([this, &status] { status = run(); });
}

int ReplayCommand::run() const {
  // What the journals say is the report's; the log is for what goes wrong.
  SystemLogSink sink("corral", json_ ? LogLevel::warning : LogLevel::info, true, false);
  EventLoop loop;
  auto device = loop.run_until_done(cluster::open_for_sole_use(loop, device_, {.read_only = dry_run_}));
  if (!device) {
    fmt::print(stderr, "corral: {}\n", device.error().describe());
    return kFailed;
  }
  OfflineReplayOptions options{.dry_run = dry_run_, .only = {}};
  if (journal_) options.only = JournalId(*journal_);
  auto replays = loop.run_until_done(replay(loop.executor(), **device, options, Logger(sink)));
  loop.run_until_done((*device)->close());
  if (!replays) {
    fmt::print(stderr, "corral: {}: {}\n", device_, replays.error().describe());
    return kFailed;
  }
  bool dirty = false;
  nlohmann::json report = nlohmann::json::array();
  for (const OfflineReplay& one : *replays) {
    dirty |= !one.report.head.clean();
    if (json_) {
      report.push_back(to_json(one));
    } else {
      print(one, dry_run_);
    }
  }
  if (json_) fmt::print("{}\n", report.dump(2));
  return dry_run_ && dirty ? kDirty : 0;
}

}  // namespace corral
