#include "cluster/area.h"

#include "test/support/catch.h"
#include "test/support/formatted_volume.h"
#include "test/support/fsck_gfs2.h"
#include "test/support/must.h"
#include "test/support/simulated_volume.h"

using namespace corral;
using namespace corral::cluster;
using test::must;
using test::SimulatedVolume;

namespace {

mkfs::FormatOptions options_of(std::uint32_t block_size) {
  mkfs::FormatOptions options;
  options.block_size = block_size;
  options.journals = 3;
  options.journal_mebibytes = 8;
  options.lock_table = "my-cluster:storage";
  options.cluster.cluster[0] = 1;
  options.cluster.secret[0] = 2;
  return options;
}

Task<Result<ClusterArea>> open_area(Device& device) {
  CO_TRY(VolumeReader volume, co_await VolumeReader::open(device));
  co_return co_await ClusterArea::find(volume);
}

struct AreaBench : SimulatedVolume {
  explicit AreaBench(std::uint32_t block_size = 4096)
      : SimulatedVolume(test::formatted_volume(options_of(block_size), 64)) {}
  ClusterArea area() { return must(run(open_area(device))); }
  void damage(std::uint64_t record) {
    const std::byte bad{0xFF};
    AlignedBuffer sector(512);
    std::ranges::fill(sector.span(), bad);
    must(run(device.write(area().offset_bytes() + record * kRecordBytes, sector.span(), WriteMode::write_through)));
  }
};

}  // namespace

TEST_CASE("a new volume has a cluster area that fsck.gfs2 does not mind", "[fsck]") {
  for (std::uint32_t block_size : {512u, 1024u, 2048u, 4096u}) {
    INFO(block_size);
    AreaBench bench(block_size);
    ClusterArea area = bench.area();
    CHECK(area.offset_bytes() % kRecordBytes == 0);
    const Header header = must(bench.run(area.read_header()));
    CHECK(header.secret[0] == 2);
    CHECK(header.settings == Settings{});
    CHECK(must(bench.run(area.read_view())).view.number == ViewNumber(0));
    const auto slots = must(bench.run(area.read_slots(kSlots)));
    REQUIRE(slots.size() == kSlots);
    for (std::uint32_t i = 0; i < kSlots; ++i)
      CHECK(slots[i].slot == Slot{.id = NodeId(i), .cluster = header.cluster});
    CHECK(test::fsck_gfs2(bench.disk.contents()) == "");
    // All that the area may hold lies within its file.
    must(bench.run(area.write_slot({.id = NodeId(kSlots - 1), .cluster = header.cluster})));
    CHECK(test::fsck_gfs2(bench.disk.contents()) == "");
  }
}

TEST_CASE("a volume without a cluster area says how to get one") {
  mkfs::FormatOptions options = options_of(4096);
  options.lock_protocol = mkfs::kLockDlm;
  SimulatedVolume bench(test::formatted_volume(options, 64));
  const auto area = bench.run(open_area(bench.device));
  REQUIRE_FALSE(area);
  CHECK(area.error().code() == ENOENT);
  CHECK(area.error().message().find("corral adopt") != std::string::npos);
}

TEST_CASE("one damaged copy of header or view does not matter, two are told") {
  AreaBench bench;
  const ClusterArea area = bench.area();
  Header header = must(bench.run(area.read_header()));
  header.settings.port = 1234;
  header = must(bench.run(area.write_header(header)));
  ViewRecord view = must(bench.run(area.read_view()));
  view.view.number = ViewNumber(5);
  view = must(bench.run(area.write_view(view)));
  SECTION("the older copies") {
    bench.damage(kHeaderRecord + 1 - header.generation % 2);
    bench.damage(kViewRecord + 1 - view.generation % 2);
    CHECK(must(bench.run(area.read_header())) == header);
    CHECK(must(bench.run(area.read_view())) == view);
  }
  SECTION("the newer copies") {
    bench.damage(kHeaderRecord + header.generation % 2);
    bench.damage(kViewRecord + view.generation % 2);
    const Header older = must(bench.run(area.read_header()));
    CHECK(older.settings.port == Settings{}.port);
    CHECK(must(bench.run(area.read_view())).view.number == ViewNumber(0));
    // The next write makes both whole again.
    CHECK(must(bench.run(area.write_header(older))).generation == header.generation);
  }
  SECTION("both") {
    bench.damage(kHeaderRecord);
    bench.damage(kHeaderRecord + 1);
    const auto found = bench.run(area.read_header());
    REQUIRE_FALSE(found);
    CHECK(found.error().message().find("magic number 0xffffffff") != std::string::npos);
  }
}

TEST_CASE("a damaged slot hides no other") {
  AreaBench bench;
  const ClusterArea area = bench.area();
  const Slot slot{.id = NodeId(2), .state = SlotState::joining, .incarnation = Incarnation(77), .name = "b"};
  must(bench.run(area.write_slot(slot)));
  bench.damage(kFirstSlotRecord + 1);
  const auto slots = must(bench.run(area.read_slots(3)));
  CHECK(slots[0].slot);
  CHECK_FALSE(slots[1].slot);
  CHECK(slots[1].problem.find("slot 1") != std::string::npos);
  CHECK(slots[2].slot == slot);
  CHECK(must(bench.run(area.read_slot(NodeId(2)))).slot == slot);
}

TEST_CASE("a power cut in a write of header, view or slot leaves the old state or the new one") {
  AreaBench bench;
  const ClusterArea area = bench.area();
  const Header header = must(bench.run(area.read_header()));
  const ViewRecord view = must(bench.run(area.read_view()));
  bench.disk.forget_history();
  Header new_header = header;
  new_header.settings.failure_timeout_ms = 9000;
  ViewRecord new_view = view;
  new_view.view.number = ViewNumber(1);
  const Slot slot{.id = NodeId(0), .state = SlotState::member, .incarnation = Incarnation(5), .name = "a"};
  must(bench.run(area.write_header(new_header)));
  must(bench.run(area.write_view(new_view)));
  must(bench.run(area.write_slot(slot)));
  for (std::uint64_t event = 0; event <= bench.disk.event_count(); ++event) {
    for (std::uint64_t seed = 0; seed < 30; ++seed) {
      SimulatedVolume after(bench.disk.after({.event = event, .seed = seed}));
      const ClusterArea cut(after.device, area.offset_bytes());
      const auto settings = must(after.run(cut.read_header())).settings;
      CHECK((settings == header.settings || settings == new_header.settings));
      CHECK(must(after.run(cut.read_view())).view.number <= ViewNumber(1));
      const FoundSlot found = must(after.run(cut.read_slot(NodeId(0))));
      REQUIRE(found.slot);
      CHECK((found.slot == slot || found.slot->state == SlotState::free));
    }
  }
}

TEST_CASE("two writers of one record: one of them learns that it lost") {
  AreaBench bench;
  const ClusterArea area = bench.area();
  Header first = must(bench.run(area.read_header()));
  Header second = first;
  first.settings.port = 1;
  second.settings.port = 2;
  must(bench.run(area.write_header(first)));
  must(bench.run(area.write_header(second)));  // both saw the same generation: the later one lands on the same copy
  CHECK(must(bench.run(area.read_header())).settings.port == 2);
  Header stale = second;
  stale.settings.port = 3;
  must(bench.run(area.write_header(must(bench.run(area.read_header())))));
  const auto lost = bench.run(area.write_header(stale));
  REQUIRE_FALSE(lost);
  CHECK(lost.error().code() == EBUSY);
}
