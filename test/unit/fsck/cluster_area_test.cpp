#include "cluster/area.h"
#include "fsck/check.h"
#include "test/support/catch.h"
#include "test/support/formatted_volume.h"
#include "test/support/must.h"
#include "test/support/simulated_volume.h"

using namespace corral;
using namespace corral::cluster;
using test::must;
using test::SimulatedVolume;

namespace {

struct Checked {
  fsck::CheckReport report;
  std::vector<std::string> problems;
};

struct AreaVolume : SimulatedVolume {
  AreaVolume() : SimulatedVolume(image()), area(must(run(open(device)))) {}

  static DiskImage image() {
    mkfs::FormatOptions options;
    options.journals = 2;
    options.journal_mebibytes = 8;
    options.lock_table = "a:b";
    options.cluster.cluster[0] = 7;
    options.cluster.secret[0] = 8;
    return test::formatted_volume(options, 64);
  }
  static Task<Result<ClusterArea>> open(Device& device) {
    CO_TRY(VolumeReader volume, co_await VolumeReader::open(device));
    co_return co_await ClusterArea::find(volume);
  }
  void damage(std::uint64_t record) {
    AlignedBuffer sector(512);
    std::ranges::fill(sector.span(), std::byte{0xA5});
    must(run(device.write(area.offset_bytes() + record * kRecordBytes, sector.span(), WriteMode::write_through)));
  }
  Checked check(bool write) {
    Checked checked;
    fsck::Findings findings([&](const fsck::Finding& finding) {
      CHECK(finding.kind == fsck::Kind::cluster_area);
      checked.problems.push_back(finding.problem);
      return write ? fsck::Outcome::repaired : fsck::Outcome::told;
    });
    fsck::CheckOptions options;
    options.write = write;
    checked.report = must(run(fsck::check_volume(executor, device, findings, options, Logger(log))));
    return checked;
  }

  ClusterArea area;
};

}  // namespace

TEST_CASE("a cluster area without damage has no findings") {
  AreaVolume volume;
  CHECK(volume.check(false).problems.empty());
}

TEST_CASE("a damaged copy of header or view is told, and written from the other one") {
  for (const std::uint64_t record : {kHeaderRecord, kHeaderRecord + 1, kViewRecord, kViewRecord + 1}) {
    INFO("record " << record);
    AreaVolume volume;
    Header header = must(volume.run(volume.area.read_header()));
    header.settings.failure_timeout_ms = 7000;
    header = must(volume.run(volume.area.write_header(header)));
    volume.damage(record);
    const Checked told = volume.check(false);
    REQUIRE(told.problems.size() == 1);
    CHECK(told.report.remaining == 1);
    CHECK(volume.check(false).problems == told.problems);
    CHECK(volume.check(true).report.remaining == 0);
    CHECK(volume.check(false).problems.empty());
    const Header after = must(volume.run(volume.area.read_header()));
    CHECK(after.secret == header.secret);
    // Where the copy in force is lost, the older one is all that is left.
    CHECK((after.settings == header.settings) != (record == kHeaderRecord + header.generation % 2));
    must(volume.run(volume.area.read_view()));
    must(volume.run(volume.area.write_header(after)));
  }
}

TEST_CASE("a damaged slot becomes a free one, and both views an empty one") {
  AreaVolume volume;
  const Slot dead{.id = NodeId(1),
                  .cluster = must(volume.run(volume.area.read_header())).cluster,
                  .state = SlotState::member,
                  .incarnation = Incarnation(3),
                  .view = ViewNumber(12),
                  .name = "beta"};
  must(volume.run(volume.area.write_slot(dead)));
  volume.damage(kFirstSlotRecord);
  volume.damage(kViewRecord);
  volume.damage(kViewRecord + 1);
  CHECK(volume.check(true).problems.size() == 2);
  CHECK(volume.check(false).problems.empty());
  CHECK(must(volume.run(volume.area.read_slot(NodeId(0)))).slot->state == SlotState::free);
  CHECK(must(volume.run(volume.area.read_slot(NodeId(1)))).slot == dead);
  CHECK(must(volume.run(volume.area.read_view())).view.number == ViewNumber(12));
}

TEST_CASE("a header that is lost twice is told and cannot be repaired") {
  AreaVolume volume;
  volume.damage(kHeaderRecord);
  volume.damage(kHeaderRecord + 1);
  CHECK(volume.check(true).report.remaining == 1);
  CHECK(volume.check(false).problems.size() == 1);
}
