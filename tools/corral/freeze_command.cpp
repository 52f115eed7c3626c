#include "tools/corral/freeze_command.h"

#include <cstdio>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "tools/corral/mounts.h"

namespace corral {

namespace {

constexpr int kAsItWas = 1;
constexpr int kFailed = 8;

Result<nlohmann::json> command_mount_at(const std::string& target, const nlohmann::json& request) {
  TRY(const CorralMount mount, mount_at(target));
  return mount.command(request);
}

int report(const std::string& target, bool json, const Result<nlohmann::json>& answer, const char* done) {
  if (!answer) {
    fmt::print(stderr, "corral: {}\n", answer.error().describe());
    return kFailed;
  }
  const bool changed = answer->value("changed", false);
  if (json) {
    fmt::print("{}\n", answer->dump(2));
  } else {
    fmt::print("{}: {}\n", target, changed ? done : answer->value("message", ""));
  }
  return changed ? 0 : kAsItWas;
}

}  // namespace

FreezeCommand::FreezeCommand(CLI::App& app, int& status) {
  CLI::App* command = app.add_subcommand("freeze", "Keep all nodes from changing a volume, to copy its device");
  command->add_option("directory", target_, "Mount point")->required();
  command->add_option("-t,--timeout", timeout_seconds_, "Seconds in which all nodes must come to rest (default 60)")
      ->check(CLI::Range(1u, 86400u));
  command->add_flag("--json", json_, "Report as JSON");
  command->callback([this, &status] { status = run(); });
}

int FreezeCommand::run() const {
  return report(
      target_, json_,
      command_mount_at(target_, {{"command", "freeze"}, {"timeout_ms", timeout_seconds_ * std::uint64_t{1000}}}),
      "frozen: nothing changes on any node until corral thaw");
}

ThawCommand::ThawCommand(CLI::App& app, int& status) {
  CLI::App* command = app.add_subcommand("thaw", "Let all nodes change a volume again that was frozen");
  command->add_option("directory", target_, "Mount point, of any node")->required();
  command->add_flag("--json", json_, "Report as JSON");
  command->callback([this, &status] { status = run(); });
}

int ThawCommand::run() const {
  return report(target_, json_, command_mount_at(target_, {{"command", "thaw"}}), "thawed");
}

}  // namespace corral
