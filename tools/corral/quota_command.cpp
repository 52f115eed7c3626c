#include "tools/corral/quota_command.h"

#include <cstdio>

#include <fmt/format.h>
#include <grp.h>
#include <pwd.h>

#include "base/parse_number.h"
#include "offline/offline_transaction.h"
#include "tools/corral/byte_size.h"
#include "tools/corral/mounts.h"
#include "tools/corral/sole_mount.h"

namespace corral {

using nlohmann::json;

namespace {

constexpr int kWrong = 1;
constexpr int kUsage = 2;
constexpr int kFailed = 8;

/// As this host knows it; empty where it does not.
std::string name_of(const std::string& kind, std::uint32_t id) {
  if (kind == "user") {
    const passwd* user = getpwuid(id);
    return user != nullptr ? user->pw_name : "";
  }
  const group* known = getgrgid(id);
  return known != nullptr ? known->gr_name : "";
}

Result<std::uint32_t> id_of(const std::string& kind, const std::string& who) {
  if (kind == "user") {
    if (const passwd* user = getpwnam(who.c_str())) return user->pw_uid;
  } else if (const group* known = getgrnam(who.c_str())) {
    return known->gr_gid;
  }
  if (const auto id = parse_number<std::uint32_t>(who)) return *id;
  return fail(EINVAL, "this host knows no {} {}, and it is no number", kind, who);
}

const char* kind_of(QuotaId id) {
  return id.kind == QuotaKind::user ? "user" : "group";
}

std::string limit_text(std::uint64_t blocks, std::uint32_t block_size) {
  return blocks == 0 ? "-" : fmt::format("{} ({})", blocks, describe_bytes(blocks * block_size));
}

int failed(const Error& error) {
  fmt::print(stderr, "corral: {}\n", error.describe());
  return kFailed;
}

Task<Result<>> mend_in(Filesystem& filesystem, const std::vector<QuotaDifference>& differences) {
  for (const QuotaDifference& difference : differences)
    CO_TRY_VOID(co_await filesystem.allocator().set_quota_usage(difference.id.kind, difference.id.id,
                                                                static_cast<std::uint64_t>(difference.used)));
  co_return Result<>{};
}

Task<Result<>> do_nothing(Filesystem&) {
  co_return Result<>{};
}

/// Usage is recorded as it was counted. What nodes have left in their own files is moved to the quota file first, or it
/// would be added once more by whoever uses their journals next.
Result<> mend(SoleVolume& volume, const std::vector<JournalId>& with_changes,
              const std::vector<QuotaDifference>& differences) {
  MountOptions options;
  options.quota = QuotaMode::account;
  for (const JournalId journal : with_changes)
    TRY_VOID(volume.mounted(options, journal, do_nothing));
  return volume.mounted(options, JournalId(0),
                        [&](Filesystem& filesystem) { return mend_in(filesystem, differences); });
}

}  // namespace

QuotaCommand::QuotaCommand(CLI::App& app, int& status) {
  CLI::App* command = app.add_subcommand("quota", "Show, check or set how much of a volume users and groups use");
  command->require_subcommand(1);
  CLI::App* report_command = command->add_subcommand("report", "Show usage and limits of all users and groups");
  CLI::App* check_command = command->add_subcommand("check", "Compare recorded usage with what files really use");
  CLI::App* set_command = command->add_subcommand("set", "Set the limits of a user or group");
  for (CLI::App* part : {report_command, set_command})
    part->add_option("target", target_, "Mount point, or device of a volume that no node has mounted")->required();
  check_command->add_option("device", target_, "Device of a volume that no node has mounted")->required();
  check_command->add_flag("-y,--yes", mend_, "Record what was counted");
  set_command->add_option("kind", kind_, "user or group")->required()->check(CLI::IsMember({"user", "group"}));
  set_command->add_option("who", who_, "Name or number")->required();
  set_command->add_option("-l,--limit", limit_, "Never more than that; 0: no limit")->transform(byte_size());
  set_command->add_option("-w,--warn", warn_, "Beyond that the log says so; 0: never")->transform(byte_size());
  for (CLI::App* part : {report_command, check_command, set_command})
    part->add_flag("--json", json_, "Report as JSON");
  report_command->callback([this, &status] { status = report(); });
  check_command->callback([this, &status] { status = check(); });
  set_command->callback([this, &status] { status = set(); });
}

std::string QuotaCommand::text(const json& answer) {
  const auto block_size = answer.value("block_size", 0u);
  std::string text =
      fmt::format("{:<6} {:>10} {:<16} {:>24} {:>24} {:>24}\n", "kind", "id", "name", "used", "limit", "warn");
  for (const json& record : answer.value("records", json::array())) {
    const auto used = record.value("used_blocks", std::int64_t{0});
    text += fmt::format(
        "{:<6} {:>10} {:<16} {:>24} {:>24} {:>24}\n", record.value("kind", ""), record.value("id", 0u),
        record.value("name", ""),
        fmt::format("{} ({})", used,
                    describe_bytes(static_cast<std::uint64_t>(std::max<std::int64_t>(used, 0)) * block_size)),
        limit_text(record.value("limit_blocks", std::uint64_t{0}), block_size),
        limit_text(record.value("warn_blocks", std::uint64_t{0}), block_size));
  }
  return text;
}

int QuotaCommand::report() const {
  auto answer = command_volume(target_, {{"command", "quota-report"}});
  if (!answer) return failed(answer.error());
  for (json& record : (*answer)["records"])
    record["name"] = name_of(record.value("kind", ""), record.value("id", 0u));
  // What the mount of this program's own was given says nothing of the volume.
  if (!names_mount_point(target_)) answer->erase("quota");
  if (json_) {
    fmt::print("{}\n", answer->dump(2, ' ', false, json::error_handler_t::replace));
    return 0;
  }
  fmt::print("{}", text(*answer));
  if (answer->value("quota", "") == "off")
    fmt::print("Mounted with quota=off: what is used is not counted here, and no limit is kept to.\n");
  return 0;
}

int QuotaCommand::set() const {
  const auto id = id_of(kind_, who_);
  if (!id || (!limit_ && !warn_)) {
    fmt::print(stderr, "corral: {}\n", id ? "nothing to set: give --limit or --warn" : id.error().describe());
    return kUsage;
  }
  json request{{"command", "quota-set"}, {"kind", kind_}, {"id", *id}};
  if (limit_) request["limit"] = *limit_;
  if (warn_) request["warn"] = *warn_;
  const auto answer = command_volume(target_, request);
  if (!answer) return failed(answer.error());
  if (json_) fmt::print("{}\n", answer->dump(2));
  return 0;
}

Result<QuotaCommand::Checked> QuotaCommand::check_volume() const {
  if (names_mount_point(target_))
    return fail(EINVAL, "{}: is mounted; unmount the volume on all nodes and give its device", target_);
  TRY(const auto volume, SoleVolume::open(target_, !mend_));
  if (mend_) TRY_VOID(volume->mounted({}, JournalId(0), do_nothing));  // replays the journals
  EventLoop& loop = volume->loop();
  TRY(const VolumeReader reader, loop.run_until_done(VolumeReader::open(volume->device())));
  TRY_VOID(loop.run_until_done(check_journals_clean(loop.executor(), reader)));
  TRY(const QuotaBooks books, loop.run_until_done(read_quota_books(reader)));
  TRY(const QuotaUsage used, loop.run_until_done(count_usage(reader, volume->stop())));
  Checked checked{.block_size = reader.geometry().block_size(), .differences = compare(books.recorded, used)};
  if (mend_ && !checked.differences.empty()) TRY_VOID(mend(*volume, books.with_changes, checked.differences));
  return checked;
}

int QuotaCommand::check() const {
  const auto checked = check_volume();
  if (!checked) return failed(checked.error());
  json list = json::array();
  for (const QuotaDifference& difference : checked->differences) {
    const std::string name = name_of(kind_of(difference.id), difference.id.id);
    list.push_back({{"kind", kind_of(difference.id)},
                    {"id", difference.id.id},
                    {"name", name},
                    {"recorded_blocks", difference.recorded},
                    {"used_blocks", difference.used}});
    if (!json_)
      fmt::print("{} {}{}: {} blocks are recorded, {} are used{}\n", kind_of(difference.id), difference.id.id,
                 name.empty() ? "" : " (" + name + ")", difference.recorded, difference.used, mend_ ? "; mended" : "");
  }
  const bool any = !list.empty();
  if (json_)
    fmt::print(
        "{}\n",
        json{{"block_size", checked->block_size}, {"differences", std::move(list)}, {"mended", mend_ && any}}.dump(
            2, ' ', false, json::error_handler_t::replace));
  return any && !mend_ ? kWrong : 0;
}

}  // namespace corral
