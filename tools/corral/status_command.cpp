#include "tools/corral/status_command.h"

#include <cstdio>
#include <thread>

#include <fmt/format.h>
#include <unistd.h>

#include "disk/event_loop.h"
#include "disk/open_device.h"
#include "journal/log_head.h"
#include "offline/journals.h"
#include "tools/corral/answer_deadline.h"
#include "tools/corral/mounts.h"
#include "tools/corral/status_report.h"

namespace corral {

namespace {

std::optional<Member> member_of(const nlohmann::json& mount) {
  const auto found = mount.find("cluster");
  if (found == mount.end() || !found->is_object() || !found->contains("slot")) return std::nullopt;
  return Member{NodeId(found->value("slot", 0u)), Incarnation(found->value("incarnation", std::uint64_t{0}))};
}

/// What the mounts of this host say of themselves.
void ask_mounts(StatusReport& report, const std::optional<CorralMount>& asked) {
  const auto mounts = corral_mounts();
  for (const CorralMount& mount : mounts.value_or(std::vector<CorralMount>())) {
    const bool own = asked && mount.directory == asked->directory && mount.device_major == asked->device_major &&
                     mount.device_minor == asked->device_minor;
    auto answer = mount.ask({{"command", "status"}});
    if (own && !answer) report.mount_error = answer.error().describe();
    if (!answer) continue;
    const std::optional<Member> member = member_of(*answer);
    if (member) report.local.push_back(*member);
    if (!own) continue;
    report.own = member;
    report.device = answer->value("device", report.device);
    report.mount = *std::move(answer);
  }
}

Task<JournalState> state_of(Executor& executor, const VolumeReader& volume, std::uint32_t id,
                            const std::vector<OfflineJournal>& journals) {
  auto found = std::ranges::find(journals, JournalId(id), &OfflineJournal::id);
  if (found == journals.end()) co_return JournalState::damaged;
  const auto head = co_await find_head({executor, volume.device(), volume.geometry(), found->map});
  if (!head) co_return JournalState::damaged;
  co_return head->clean() ? JournalState::clean : JournalState::dirty;
}

Task<Result<>> look_at_journals(Executor& executor, const VolumeReader& volume, StatusReport& report) {
  bool all = true;
  CO_TRY(const std::vector<OfflineJournal> journals, co_await find_sound_journals(volume, all));
  const std::size_t count = journals.empty() ? 0 : journals.back().id.value + 1;
  for (std::uint32_t id = 0; id < count; ++id) {
    const cluster::ObservedNode* node = report.cluster ? report.cluster->find(NodeId(id)) : nullptr;
    const bool in_use = node != nullptr && node->alive() && node->slot.state == cluster::SlotState::member;
    report.journals.push_back(in_use ? JournalState::in_use : co_await state_of(executor, volume, id, journals));
  }
  co_return Result<>{};
}

Task<Result<>> look_at_volume(Executor& executor, Device& device, StatusReport& report) {
  CO_TRY(VolumeReader volume, co_await VolumeReader::open(device));
  report.lock_table = volume.superblock().lock_table;
  report.lock_protocol = volume.superblock().lock_protocol;
  auto area = co_await cluster::ClusterArea::find(volume);
  if (!area && area.error().code() != ENOENT) co_return std::unexpected(area.error());
  if (area) {
    cluster::Observer observer(executor, *area);
    CO_TRY(report.cluster, co_await observer.look());
  } else if (report.mount.is_object()) {
    co_return Result<>{};  // its journal is in use
  }
  co_return co_await look_at_journals(executor, volume, report);
}

Result<StatusReport> gather(const std::string& target, Duration timeout) {
  StatusReport report;
  report.device = target;
  std::optional<CorralMount> mount;
  if (auto found = names_path(target) ? mount_at(target) : Result<CorralMount>(fail(ENOENT)); found) {
    mount = *found;
    report.directory = mount->directory;
    report.device = mount->device;
  }
  ask_mounts(report, mount);
  EventLoop loop;
  AnswerDeadline deadline(loop.executor(), timeout);
  StorageOptions options;
  options.read_only = true;
  options.exclusive = false;
  TRY(auto device, loop.run_until_done(deadline.wait_for(open_device(loop, report.device, options),
                                                         fmt::format("{}: opening it", report.device))));
  DeadlineDevice watched(*device, deadline);
  const Result<> looked = loop.run_until_done(look_at_volume(loop.executor(), watched, report));
  loop.run_until_done(deadline.wait_for(device->close(), fmt::format("{}: closing it", report.device)));
  if (!looked) return std::unexpected(looked.error().within(report.device));
  return report;
}

}  // namespace

StatusCommand::StatusCommand(CLI::App& app, int& status) {
  CLI::App* command = app.add_subcommand("status", "Show who is in the cluster, read from the disk");
  command->add_option("target", target_,
                      "Mount point, or device as for mount.corral (default: all mounts of this host)");
  command->add_flag("--json", json_, "Report as JSON");
  command->add_flag("-w,--watch", watch_, "Show it again and again");
  command->add_option("-i,--interval", interval_seconds_, "Seconds between two reports with --watch")
      ->capture_default_str()
      ->check(CLI::Range(0.1, 3600.0));
  command->add_option("--timeout", timeout_seconds_, "Seconds to wait for each answer of the disk")
      ->capture_default_str()
      ->check(CLI::Range(0.1, 3600.0));
  command->callback([this, &status] { status = run(); });
}

/// One round: the code of the first report that is not well.
int StatusCommand::show() const {
  std::vector<std::string> targets{target_};
  if (target_.empty()) {
    targets.clear();
    for (const CorralMount& mount : corral_mounts().value_or(std::vector<CorralMount>()))
      targets.push_back(mount.directory);
  }
  const auto timeout = std::chrono::duration_cast<Duration>(std::chrono::duration<double>(timeout_seconds_));
  int worst = targets.empty() ? status_exit::kNobody : status_exit::kWell;
  if (targets.empty()) fmt::print(stderr, "corral: this host has no Corral mount\n");
  nlohmann::json reports = nlohmann::json::array();
  for (const std::string& target : targets) {
    auto report = gather(target, timeout);
    if (!report) fmt::print(stderr, "corral: {}\n", report.error().describe());
    if (worst == status_exit::kWell) worst = report ? report->exit_code() : status_exit::kFailed;
    if (!report) continue;
    if (json_) {
      reports.push_back(report->to_json());
    } else {
      fmt::print("{}{}", target == targets.front() ? "" : "\n", report->text());
    }
  }
  if (!json_ || (!target_.empty() && reports.empty())) return worst;
  const nlohmann::json& shown = target_.empty() ? reports : reports.front();
  fmt::print("{}\n", shown.dump(watch_ ? -1 : 2, ' ', false, nlohmann::json::error_handler_t::replace));
  return worst;
}

int StatusCommand::run() const {
  const bool clears = watch_ && !json_ && isatty(STDOUT_FILENO) != 0;
  for (;;) {
    if (clears) fmt::print("\033[H\033[2J");
    const int code = show();
    if (!watch_) return code;
    std::fflush(stdout);
    std::this_thread::sleep_for(std::chrono::duration<double>(interval_seconds_));
  }
}

}  // namespace corral
