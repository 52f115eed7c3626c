// fsck.corral: checks and repairs a volume that is not mounted.
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <memory>

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include "cluster/sole_use.h"
#include "disk/event_loop.h"
#include "fsck/check.h"
#include "tools/fsck_corral/command_line.h"
#include "tools/fsck_corral/terminal.h"

using namespace corral;
using Mode = FsckCommand::Mode;

namespace {

std::string_view word_for(fsck::Outcome outcome) {
  switch (outcome) {
    case fsck::Outcome::told:
      return "found";
    case fsck::Outcome::repaired:
      return "repaired";
    case fsck::Outcome::declined:
      return "declined";
  }
  return "";
}

/// One run: decides on findings as the user wants it, shows them, and sums up.
class Run {
 public:
  explicit Run(const FsckCommand& command)
      : command_(command), bar_(loop_.clock(), !command.json && command.verbosity >= 0 && isatty(STDERR_FILENO) != 0) {}

  int main();

 private:
  fsck::Outcome decide(const fsck::Finding& finding);
  void show(const fsck::Finding& finding, fsck::Outcome outcome);
  Result<fsck::CheckReport> check(Device& device, fsck::Findings& findings);
  int sum_up(const fsck::CheckReport& report);
  bool writes() const { return command_.mode != Mode::never; }

  const FsckCommand& command_;
  EventLoop loop_;
  ProgressBar bar_;
  Questions questions_;
  nlohmann::json shown_ = nlohmann::json::array();
};

fsck::Outcome Run::decide(const fsck::Finding& finding) {
  bar_.clear();
  fsck::Outcome outcome = fsck::Outcome::repaired;
  if (command_.mode == Mode::never) outcome = fsck::Outcome::told;
  if (command_.mode == Mode::ask) return questions_.ask(finding);
  show(finding, outcome);
  return outcome;
}

void Run::show(const fsck::Finding& finding, fsck::Outcome outcome) {
  if (command_.json) {
    shown_.push_back({{"kind", fsck::name_of(finding.kind)},
                      {"block", finding.block.value},
                      {"problem", finding.problem},
                      {"repair", finding.repair},
                      {"outcome", word_for(outcome)}});
    return;
  }
  if (command_.verbosity < 0) return;
  fmt::print("{}\n", finding.problem);
  if (outcome == fsck::Outcome::repaired || command_.verbosity > 0)
    fmt::print("  {}: {}\n", outcome == fsck::Outcome::repaired ? "repair" : "would", finding.repair);
}

Result<fsck::CheckReport> Run::check(Device& device, fsck::Findings& findings) {
  SystemLogSink sink("fsck.corral", command_.verbosity > 0 ? LogLevel::info : LogLevel::warning, true, false);
  fsck::CheckOptions options;
  options.write = writes();
  options.only_journals = command_.preen && !command_.force;
  options.progress = [this](std::string_view phase, std::uint64_t done, std::uint64_t total) {
    bar_.update(phase, done, total);
  };
  auto report =
      loop_.run_until_done(fsck::check_volume(loop_.executor(), device, findings, std::move(options), Logger(sink)));
  bar_.clear();
  return report;
}

int Run::sum_up(const fsck::CheckReport& report) {
  int code = fsck_exit::kClean;
  if (report.findings > 0) code = fsck_exit::kCorrected;
  if (report.remaining > 0 || !report.complete) code = fsck_exit::kErrorsRemain;
  if (command_.json) {
    const nlohmann::json all = {{"device", command_.device},
                                {"findings", shown_},
                                {"found", report.findings},
                                {"remaining", report.remaining},
                                {"complete", report.complete},
                                {"blocks", report.blocks},
                                {"inodes", report.inodes},
                                {"directories", report.directories},
                                {"exit_code", code}};
    fmt::print("{}\n", all.dump(2, ' ', false, nlohmann::json::error_handler_t::replace));
    return code;
  }
  if (command_.verbosity > 0)
    fmt::print("{}: {} blocks, {} inodes, {} directories, {} bytes read\n", command_.device, report.blocks,
               report.inodes, report.directories, report.bytes_read);
  if (command_.verbosity >= 0 && report.findings > 0)
    fmt::print("{}: {} errors found, {} repaired\n", command_.device, report.findings,
               report.findings - std::min(report.findings, report.remaining));
  return code;
}

int Run::main() {
  auto device = loop_.run_until_done(cluster::open_for_sole_use(loop_, command_.device, {.read_only = !writes()}));
  if (!device) {
    fmt::print(stderr, "fsck.corral: {}\n", device.error().describe());
    return fsck_exit::kFailed;
  }
  fsck::Findings findings([this](const fsck::Finding& finding) { return decide(finding); });
  auto report = check(**device, findings);
  loop_.run_until_done((*device)->close());
  if (report) return sum_up(*report);
  fmt::print(stderr, "fsck.corral: {}: {}\n", command_.device, report.error().describe());
  return fsck_exit::kFailed;
}

/// Whatever has been written so far is in an order in which a further run goes on.
extern "C" void cancel(int) {
  _exit(fsck_exit::kCancelled);
}

}  // namespace

int main(int argc, char** argv) {
  auto parsed = parse_fsck_command(argc, argv);
  if (const int* code = std::get_if<int>(&parsed)) return *code;
  auto& command = std::get<FsckCommand>(parsed);
  if (command.mode == Mode::ask && (command.json || isatty(STDIN_FILENO) == 0 || isatty(STDOUT_FILENO) == 0)) {
    fmt::print(stderr, "fsck.corral: there is no terminal to ask on: -n only checks, -y repairs\n");
    return fsck_exit::kUsage;
  }
  std::signal(SIGINT, cancel);
  std::signal(SIGTERM, cancel);
  return Run(command).main();
}
