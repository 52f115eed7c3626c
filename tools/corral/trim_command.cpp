#include "tools/corral/trim_command.h"

#include <cstdio>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "tools/corral/byte_size.h"
#include "tools/corral/sole_mount.h"

namespace corral {

namespace {

constexpr int kFailed = 8;

}  // namespace

TrimCommand::TrimCommand(CLI::App& app, int& status) {
  CLI::App* command = app.add_subcommand("trim", "Tell the disk which blocks of a volume are free (as fstrim)");
  command->add_option("target", target_, "Mount point, or device of a volume that no node has mounted")->required();
  command->add_option("-o,--offset", offset_, "Where to begin (default 0)")->transform(byte_size());
  command->add_option("-l,--length", length_, "How far to go (default: to the end)")->transform(byte_size());
  command->add_option("-m,--minimum", minimum_, "Leave shorter free extents alone")->transform(byte_size());
  command->add_flag("--json", json_, "Report as JSON");
  command->callback([this, &status] { status = run(); });
}

int TrimCommand::run() const {
  const auto answer =
      command_volume(target_, {{"command", "trim"}, {"start", offset_}, {"length", length_}, {"minimum", minimum_}});
  if (!answer) {
    fmt::print(stderr, "corral: {}\n", answer.error().describe());
    return kFailed;
  }
  if (json_) {
    fmt::print("{}\n", answer->dump(2));
    return 0;
  }
  const auto bytes = answer->value("bytes_trimmed", std::uint64_t{0});
  fmt::print("{}: {} ({} bytes) trimmed\n", target_, describe_bytes(bytes), bytes);
  return 0;
}

}  // namespace corral
