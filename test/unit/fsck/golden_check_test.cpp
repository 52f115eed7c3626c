// The checker on volumes that the kernel made, sound and damaged.
#include "fsck/check.h"
#include "test/support/catch.h"
#include "test/support/file_census.h"
#include "test/support/fsck_gfs2.h"
#include "test/support/golden_cases.h"
#include "test/support/golden_disk.h"
#include "test/support/must.h"

using namespace corral;
using namespace corral::test;

namespace {

/// Blocks that a damage changes; none where its patches change nothing.
std::set<std::uint64_t> blocks_hit(const nlohmann::json& damage, std::uint32_t block_size) {
  std::set<std::uint64_t> blocks;
  for (const nlohmann::json& patch : damage.at("patches")) {
    for (const nlohmann::json& zero : patch.value("zero_blocks", nlohmann::json::array()))
      blocks.insert(zero.at(0).get<std::uint64_t>());
    if (patch.contains("offset") && patch.at("old") != patch.at("new"))
      blocks.insert(patch.at("offset").get<std::uint64_t>() / block_size);
  }
  return blocks;
}

void check_repair(const std::string& base, const nlohmann::json& damage, const Census* census) {
  const DiskImage image = damaged(*golden_disk(base), damage);
  INFO(damage.at("name").get<std::string>());
  const std::set<std::uint64_t> hit = blocks_hit(damage, 4096);
  SimulatedVolume looking(image);
  const CheckedImage told = check_image(looking, false);
  REQUIRE(told.outcome);
  CHECK((looking.disk.contents() == image));
  if (census != nullptr) CHECK(told.findings.empty() == hit.empty());
  // Whatever is wrong with a superblock, the volume around it is sound.
  if (damage.at("name").get<std::string>().starts_with("sb-")) CHECK(told.findings.size() == 1);

  SimulatedVolume repairing(image);
  const CheckedImage repaired = check_image(repairing, true);
  REQUIRE(repaired.outcome);
  CHECK(repaired.report.remaining == 0);
  CHECK(repaired.findings.size() == told.findings.size());
  const CheckedImage again = check_image(repairing, false);
  CHECK(words_of(again) == "");
  CHECK(fsck_gfs2(repairing.disk.contents()) == "");
  if (census != nullptr) CHECK(must(repairing.run(find_loss(repairing.device, *census, hit))) == "");
}

}  // namespace

TEST_CASE("sound golden volumes have nothing wrong", "[golden]") {
  for (const std::string name :
       {"basic-1k/volume.img", "basic-4k/volume.img", "quota/volume.img", "corrupt/base.img"}) {
    auto image = golden_disk(name);
    if (!image) return;
    INFO(name);
    SimulatedVolume bench(*image);
    const CheckedImage checked = check_image(bench, true);
    CHECK(words_of(checked) == "");
    CHECK(checked.report.inodes > 10);
    CHECK((bench.disk.contents() == *image));
  }
}

TEST_CASE("volumes with dirty journals are sound once these are replayed", "[golden]") {
  for (const std::string name :
       {"dirty-journal-create", "dirty-journal-revoke", "dirty-journal-jdata", "dirty-journal-wrap",
        "dirty-journal-killed", "dirty-journal-cluster", "quota-pending"}) {
    auto image = golden_disk(name + "/dirty.img");
    if (!image) return;
    INFO(name);
    SimulatedVolume bench(*image);
    const CheckedImage first = check_image(bench, true);
    REQUIRE(first.outcome);
    for (const fsck::Finding& finding : first.findings) {
      // Files that were deleted while open are freed, too.
      const bool expected = finding.kind == fsck::Kind::journal || name == "dirty-journal-wrap";
      CHECK(expected);
    }
    CHECK(words_of(check_image(bench, false)) == "");
    CHECK(fsck_gfs2(bench.disk.contents()) == "");
  }
}

TEST_CASE("every damage to a golden volume is found and repaired, and hurts nobody else", "[golden]") {
  auto base = golden_disk("corrupt/base.img");
  if (!base) return;
  SimulatedVolume sound(*base);
  const Census census = must(sound.run(take_census(sound.executor, sound.device)));
  CHECK(census.size() > 300);
  for (const nlohmann::json& damage : golden_cases("corrupt/cases.jsonl"))
    check_repair("corrupt/base.img", damage, &census);
}

TEST_CASE("every damage to a golden journal is repaired", "[golden]") {
  for (const nlohmann::json& damage : golden_cases("corrupt/journal-cases.jsonl"))
    check_repair("dirty-journal-create/dirty.img", damage, nullptr);
}
