// Journals that the kernel left dirty: our replay finds what the kernel found, and leaves the volume as the kernel
// would.
#include <fstream>
#include <regex>

#include <nlohmann/json.hpp>

#include "offline/journals.h"
#include "test/support/catch.h"
#include "test/support/golden_disk.h"
#include "test/support/simulated_volume.h"

using namespace corral;
using namespace corral::test;

namespace {

const std::vector<std::string> kDirtyVolumes = {
    "dirty-journal-create", "dirty-journal-revoke",  "dirty-journal-jdata", "dirty-journal-wrap",
    "dirty-journal-killed", "dirty-journal-cluster", "quota-pending",
};

/// What the kernel said about one journal.
struct KernelReplay {
  std::uint64_t replayed = 0;
  std::uint64_t found = 0;
  std::uint64_t revokes = 0;
  std::string statfs;
  bool dirty = false;
};

std::map<std::uint64_t, KernelReplay> kernel_replays(const std::filesystem::path& file) {
  std::map<std::uint64_t, KernelReplay> replays;
  std::ifstream lines(file);
  const std::regex replayed("jid=(\\d+): Replayed (\\d+) of (\\d+) blocks");
  const std::regex revokes("jid=(\\d+): Found (\\d+) revoke tags");
  const std::regex statfs("jid=(\\d+): (Updated master statfs .*)");
  const std::regex done("jid=(\\d+): Done");
  std::smatch match;
  for (std::string line; std::getline(lines, line);) {
    if (std::regex_search(line, match, replayed))
      replays[std::stoul(match[1])] = {std::stoull(match[2]), std::stoull(match[3]), 0, {}, true};
    else if (std::regex_search(line, match, revokes))
      replays[std::stoul(match[1])].revokes = std::stoull(match[2]);
    else if (std::regex_search(line, match, statfs))
      replays[std::stoul(match[1])].statfs = match[2];
    else if (std::regex_search(line, match, done))
      replays[std::stoul(match[1])];
  }
  return replays;
}

template <class T>
T must(Result<T> result) {
  if (!result) FAIL(result.error().describe());
  if constexpr (!std::is_void_v<T>) return *std::move(result);
}

std::vector<OfflineReplay> replay_all(SimulatedVolume& bench, bool dry_run = false) {
  VolumeReader volume = must(bench.run(VolumeReader::open(bench.device)));
  return must(bench.run(replay_offline(bench.executor, volume, {.dry_run = dry_run, .only = {}}, Logger(bench.log))));
}

}  // namespace

TEST_CASE("replay finds what the kernel found", "[golden]") {
  for (const std::string& name : kDirtyVolumes) {
    auto image = golden_disk(name + "/dirty.img");
    if (!image) return;
    INFO(name);
    SimulatedVolume bench(*image);
    std::vector<OfflineReplay> replays = replay_all(bench);
    for (const std::string& line : bench.log.lines)
      UNSCOPED_INFO(line);
    auto kernel = kernel_replays(*golden_folder() / name / "replay.txt");
    REQUIRE(kernel.size() == replays.size());
    for (const OfflineReplay& replay : replays) {
      const KernelReplay& expected = kernel.at(replay.journal.id.value);
      CHECK(replay.report.replayed == expected.dirty);
      CHECK(replay.report.plan.replayed_blocks == expected.replayed);
      CHECK(replay.report.plan.blocks.size() == expected.found);
      CHECK(replay.report.plan.revokes == expected.revokes);
      if (!expected.statfs.empty())
        CHECK(std::ranges::any_of(bench.log.lines, [&](const std::string& line) {
          return line == fmt::format("jid={}: {}", replay.journal.id.value, expected.statfs);
        }));
    }
  }
}
