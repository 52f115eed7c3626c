#include "tools/corral/grow_command.h"

#include <cstdio>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "tools/corral/byte_size.h"
#include "tools/corral/sole_mount.h"

namespace corral {

namespace {

constexpr int kFailed = 8;

void print(const std::string& target, const nlohmann::json& answer, bool dry_run) {
  const auto block_size = answer.value("block_size", std::uint64_t{0});
  const auto bytes = [&](const char* field) {
    return describe_bytes(answer.value(field, std::uint64_t{0}) * block_size);
  };
  const auto groups = answer.value("groups", std::uint64_t{0});
  if (groups == 0) {
    fmt::print(
        "{}: nothing to add; the device has {} more than the volume, and 32 MiB are the least that can be "
        "added\n",
        target, bytes("spare_blocks"));
    return;
  }
  fmt::print("{}: {} resource groups {}, {} in {} blocks; {} in all\n", target, groups,
             dry_run ? "would be added" : "added", bytes("blocks"), answer.value("blocks", std::uint64_t{0}),
             bytes("total_blocks"));
}

}  // namespace

GrowCommand::GrowCommand(CLI::App& app, int& status) {
  CLI::App* command = app.add_subcommand("grow", "Make a volume as large as its device (as gfs2_grow)");
  command->add_option("target", target_, "Mount point, or device of a volume that no node has mounted")->required();
  command->add_flag("-T,--test", dry_run_, "Only say what would be added");
  command->add_flag("--json", json_, "Report as JSON");
  command->callback([this, &status] { status = run(); });
}

int GrowCommand::run() const {
  const auto answer = command_volume(target_, {{"command", "grow"}, {"dry_run", dry_run_}});
  if (!answer) {
    fmt::print(stderr, "corral: {}\n", answer.error().describe());
    return kFailed;
  }
  if (json_) {
    fmt::print("{}\n", answer->dump(2));
  } else {
    print(target_, *answer, dry_run_);
  }
  return 0;
}

}  // namespace corral
