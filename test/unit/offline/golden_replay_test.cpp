// Journals that the kernel left dirty: our replay finds what the kernel found, and leaves the volume as the kernel
// would.
#include <fstream>
#include <regex>
#include <sstream>

#include <nlohmann/json.hpp>

#include "offline/journals.h"
#include "offline/totals.h"
#include "test/support/catch.h"
#include "test/support/golden_cases.h"
#include "test/support/golden_disk.h"
#include "test/support/must.h"
#include "test/support/simulated_volume.h"
#include "test/support/volume_digest.h"

using namespace corral;
using namespace corral::test;

namespace {

/// Volumes with dirty journals, and the digest of each after the kernel (6.1) had replayed it and was cut off before
/// it did anything else.
const std::map<std::string, std::uint32_t> kDirtyVolumes = {
    {"dirty-journal-create", 0x722b2344}, {"dirty-journal-revoke", 0x0f37b496}, {"dirty-journal-jdata", 0xcd728618},
    {"dirty-journal-wrap", 0xa3b0599d},   {"dirty-journal-killed", 0x64ac9139}, {"dirty-journal-cluster", 0x7b262995},
    {"quota-pending", 0xba0174a4},
};
/// The same for damages inside a journal that the kernel replayed nevertheless.
const std::map<std::string, std::uint32_t> kDamagedJournals = {
    {"journal-untouched", 0x722b2344},
    {"journal-head-crc-bad", 0x722b2344},
    {"journal-first-descriptor-bad", 0x1a3c10f1},
};

/// What the kernel said about one journal.
struct KernelReplay {
  std::uint64_t replayed = 0;
  std::uint64_t found = 0;
  std::uint64_t revokes = 0;
  std::string statfs;
  bool dirty = false;
};

std::map<std::uint64_t, KernelReplay> kernel_replays(std::istream&& lines) {
  std::map<std::uint64_t, KernelReplay> replays;
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

Result<std::vector<OfflineReplay>> try_replay(SimulatedVolume& bench) {
  VolumeReader volume = must(bench.run(VolumeReader::open(bench.device)));
  auto replays = bench.run(replay_offline(bench.executor, volume, {}, Logger(bench.log)));
  if (!replays) return replays;
  if (auto settled = bench.run(settle_totals(bench.executor, volume, Logger(bench.log))); !settled)
    return std::unexpected(settled.error());
  return replays;
}

std::uint32_t digest(SimulatedVolume& bench) {
  VolumeReader volume = must(bench.run(VolumeReader::open(bench.device)));
  return digest_without_journals(bench.disk.contents(), volume.geometry(), must(bench.run(find_journals(volume))));
}

void check_like_kernel(SimulatedVolume& bench, const std::vector<OfflineReplay>& replays, std::istream&& messages) {
  auto kernel = kernel_replays(std::move(messages));
  REQUIRE(kernel.size() == replays.size());
  for (const OfflineReplay& replay : replays) {
    const KernelReplay& expected = kernel.at(replay.journal.id.value);
    CHECK(replay.report.replayed == expected.dirty);
    CHECK(replay.report.plan.replayed_blocks == expected.replayed);
    CHECK(replay.report.plan.blocks.size() == expected.found);
    CHECK(replay.report.plan.revokes == expected.revokes);
    if (expected.statfs.empty()) continue;
    const std::string line = fmt::format("jid={}: {}", replay.journal.id.value, expected.statfs);
    CHECK(std::ranges::count(bench.log.lines, line) == 1);
  }
}

}  // namespace

TEST_CASE("replay finds what the kernel found and leaves what the kernel left", "[golden]") {
  for (const auto& [name, kernel_digest] : kDirtyVolumes) {
    auto image = golden_disk(name + "/dirty.img");
    if (!image) return;
    INFO(name);
    SimulatedVolume bench(*image);
    const std::vector<OfflineReplay> replays = must(try_replay(bench));
    check_like_kernel(bench, replays, std::ifstream(*golden_folder() / name / "replay.txt"));
    CHECK(digest(bench) == kernel_digest);

    const DiskImage once = bench.disk.contents();
    for (const OfflineReplay& again : must(try_replay(bench)))
      CHECK_FALSE(again.report.replayed);
    CHECK(bench.disk.contents() == once);
  }
}

TEST_CASE("a golden journal whose replay is cut off ends the same", "[golden]") {
  for (const auto& [name, kernel_digest] : kDirtyVolumes) {
    auto image = golden_disk(name + "/dirty.img");
    if (!image) return;
    SimulatedVolume whole(*image);
    must(try_replay(whole));
    Random random(kernel_digest);
    const std::uint64_t events = whole.disk.event_count();
    for (std::uint64_t i = 0; i < 6; ++i) {
      const PowerCut cut{.event = random.below(events + 1), .unstable = PowerCut::Unstable::random, .seed = i};
      INFO(name << " event " << cut.event << " seed " << i);
      SimulatedVolume next(whole.disk.after(cut));
      must(try_replay(next));
      REQUIRE(digest(next) == kernel_digest);
    }
  }
}

TEST_CASE("damages inside a journal end as with the kernel, or in a refusal", "[golden]") {
  for (const nlohmann::json& damage : golden_cases("corrupt/journal-cases.jsonl")) {
    const std::string name = damage.at("name");
    INFO(name);
    SimulatedVolume bench(damaged(*golden_disk("dirty-journal-create/dirty.img"), damage));
    auto replays = try_replay(bench);
    const nlohmann::json& kernel = damage.at("kernel_on_the_damaged_volume");
    auto expected = kDamagedJournals.find(name);
    if (expected != kDamagedJournals.end()) {
      std::stringstream messages;
      for (const std::string line : kernel.at("messages"))
        messages << line << '\n';
      REQUIRE(replays);
      check_like_kernel(bench, *replays, std::move(messages));
      CHECK(digest(bench) == expected->second);
    } else if (name == "journal-all-zero") {
      // Nothing to replay; the kernel mounts such a volume, too.
      REQUIRE(replays);
      CHECK(kernel.at("mounts") == true);
      CHECK(bench.device.counters().writes == 0);
    } else {
      // A count of revokes that the log cannot hold: the kernel happens to survive it, we say that the log is damaged.
      CHECK((kernel.at("mounts") == false || name == "journal-revoke-count-too-big"));
      REQUIRE_FALSE(replays);
      CHECK(replays.error().kind() == ErrorKind::corrupt);
      CHECK(replays.error().message().starts_with("journal 0: "));
      CHECK(bench.device.counters().writes == 0);
    }
  }
}
