#include "tools/corral/replay_command.h"

#include <cstdio>
#include <map>
#include <set>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/log.h"
#include "cluster/sole_use.h"
#include "disk/event_loop.h"
#include "offline/journals.h"
#include "offline/totals.h"
#include "offline/volume_reader.h"
#include "ondisk/field_table.h"
#include "tools/corral/block_owners.h"

namespace corral {

namespace {

constexpr int kDirty = 1;
constexpr int kFailed = 8;

/// What a log block holds, beside what the plan says of it.
struct BlockContents {
  std::string type;              ///< "data", or the kind of metadata
  std::optional<BlockNo> inode;  ///< whose it is
};

struct Replays {
  std::vector<OfflineReplay> journals;
  /// Of each journal in turn, as its plan's blocks; empty where they were not asked for.
  std::vector<std::vector<BlockContents>> contents;
};

std::string_view word_for(LoggedBlock::Fate fate) {
  switch (fate) {
    case LoggedBlock::Fate::write:
      return "replayed";
    case LoggedBlock::Fate::superseded:
      return "superseded";
    case LoggedBlock::Fate::revoked:
      return "revoked";
  }
  return "";
}

/// The states stand in the log before it is replayed and after.
Task<Result<std::vector<BlockContents>>> read_log_blocks(const VolumeReader& volume, const OfflineReplay& one,
                                                         const std::map<BlockNo, BlockNo>& owners) {
  std::vector<BlockContents> all;
  for (const LoggedBlock& block : one.report.plan.blocks) {
    const auto place = static_cast<std::uint32_t>((std::uint64_t{one.report.head.tail} + block.log_offset) %
                                                  one.journal.map.size_blocks());
    CO_TRY(const AlignedBuffer bytes, co_await volume.read_block(one.journal.map.block_at(place)));
    const ondisk::MetaType type = ondisk::view<ondisk::MetaHeader>(bytes.span()).meta_type();
    BlockContents contents{.type = block.journaled_data ? "data" : ondisk::describe_type(type), .inode = {}};
    // What is revoked has had another owner.
    if (!block.journaled_data && type == ondisk::MetaType::dinode)
      contents.inode = block.place;
    else if (!block.journaled_data && type == ondisk::MetaType::leaf)
      contents.inode = BlockNo(ondisk::view<ondisk::Leaf>(bytes.span()).inode);
    else if (const auto owner = owners.find(block.place);
             owner != owners.end() && block.fate != LoggedBlock::Fate::revoked)
      contents.inode = owner->second;
    all.push_back(std::move(contents));
  }
  co_return all;
}

/// Of each journal in turn.
Task<Result<std::vector<std::vector<BlockContents>>>> list_contents(Executor& executor, Device& device,
                                                                    const VolumeReader& reader,
                                                                    const std::vector<OfflineReplay>& journals,
                                                                    bool dry_run) {
  std::vector<std::vector<BlockContents>> contents;
  std::set<BlockNo> wanted;
  for (const OfflineReplay& one : journals)
    for (const LoggedBlock& block : one.report.plan.blocks)
      wanted.insert(block.place);
  if (wanted.empty()) co_return contents;
  CO_TRY(const auto owners, co_await find_owners(executor, device, std::move(wanted), dry_run));
  for (const OfflineReplay& one : journals) {
    CO_TRY(std::vector<BlockContents> of_journal, co_await read_log_blocks(reader, one, owners));
    contents.push_back(std::move(of_journal));
  }
  co_return contents;
}

Task<Result<Replays>> replay(Executor& executor, Device& device, OfflineReplayOptions options, bool list, Logger log) {
  CO_TRY(VolumeReader reader, co_await VolumeReader::open(device));
  Replays replays;
  CO_TRY(replays.journals, co_await replay_offline(executor, reader, options, log));
  if (list) {
    CO_TRY(replays.contents, co_await list_contents(executor, device, reader, replays.journals, options.dry_run));
  }
  // Of a journal alone they are left to whoever uses it next.
  if (!options.dry_run && !options.only) CO_TRY_VOID(co_await settle_totals(executor, reader, std::move(log)));
  co_return replays;
}

double milliseconds(Duration duration) {
  return std::chrono::duration<double, std::milli>(duration).count();
}

nlohmann::json describe(const LoggedBlock& block, const BlockContents& contents) {
  return {{"block", block.place.value},
          {"type", contents.type},
          {"inode", contents.inode ? nlohmann::json(contents.inode->value) : nlohmann::json()},
          {"fate", word_for(block.fate)},
          {"log_offset", block.log_offset}};
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

void print_blocks(const OfflineReplay& one, const std::vector<BlockContents>& contents) {
  if (contents.empty()) return;
  fmt::print("{:>12}  {:<22} {:>12}  {}\n", "block", "type", "inode", "fate");
  for (std::size_t i = 0; i < contents.size(); ++i) {
    const LoggedBlock& block = one.report.plan.blocks[i];
    fmt::print("{:>12}  {:<22} {:>12}  {}\n", block.place.value, contents[i].type,
               contents[i].inode ? fmt::format("{}", contents[i].inode->value) : "-", word_for(block.fate));
  }
}

}  // namespace

ReplayCommand::ReplayCommand(CLI::App& app, int& status) {
  CLI::App* command = app.add_subcommand("replay", "Replay the journals of a volume that is not mounted");
  command->add_option("device", device_, "Block device, image file or iscsi://host[:port]/target/lun")->required();
  command->add_flag("-n,--dry-run", dry_run_, "Only say what would be replayed; exit status 1 if a journal is dirty");
  command->add_option("--journal", journal_, "Only this journal (0 is the first)");
  command->add_flag("-l,--list", list_, "List the logged blocks with type and inode; walks through all inodes");
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
  auto replays = loop.run_until_done(replay(loop.executor(), **device, options, list_, Logger(sink)));
  loop.run_until_done((*device)->close());
  if (!replays) {
    fmt::print(stderr, "corral: {}: {}\n", device_, replays.error().describe());
    return kFailed;
  }
  bool dirty = false;
  nlohmann::json report = nlohmann::json::array();
  for (std::size_t i = 0; i < replays->journals.size(); ++i) {
    const OfflineReplay& one = replays->journals[i];
    const auto contents = replays->contents.empty() ? std::vector<BlockContents>() : replays->contents[i];
    dirty |= !one.report.head.clean();
    if (json_) {
      report.push_back(to_json(one));
      for (std::size_t k = 0; k < contents.size(); ++k)
        report.back()["list"].push_back(describe(one.report.plan.blocks[k], contents[k]));
    } else {
      print(one, dry_run_);
      print_blocks(one, contents);
    }
  }
  if (json_) fmt::print("{}\n", report.dump(2));
  return dry_run_ && dirty ? kDirty : 0;
}

}  // namespace corral
