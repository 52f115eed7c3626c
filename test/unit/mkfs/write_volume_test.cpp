#include "tools/mkfs/write_volume.h"

#include "disk/simulated_device.h"
#include "ondisk/validate.h"
#include "test/support/catch.h"
#include "test/support/manual_clock.h"

using namespace corral;
using namespace corral::mkfs;
using namespace corral::ondisk;

namespace {

constexpr std::uint64_t kDeviceBytes = 64 << 20;

FormatOptions sound() {
  FormatOptions options;
  options.lock_table = "a:b";
  return options;
}

/// A disk full of what another filesystem left.
SimulatedDisk used_disk() {
  DiskImage image(kDeviceBytes);
  image.fill(0, kDeviceBytes, std::byte{0xA5});
  return SimulatedDisk(std::move(image));
}

struct Bench {
  ManualClock clock;
  Executor executor{clock};
  SimulatedDisk disk = used_disk();
  SimulatedDevice device{executor, disk, 1, SimulatedDeviceOptions::realistic()};

  Result<> format(WriteOptions options = {}) {
    auto image = VolumeImage::plan(sound(), device.geometry());
    REQUIRE(image);
    return run_to_end(clock, executor, write_volume(executor, device, *image, options));
  }
};

std::vector<std::byte> read(const DiskImage& image, std::uint64_t offset, std::size_t bytes) {
  std::vector<std::byte> result(bytes);
  image.read(offset, result);
  return result;
}

Result<SuperblockInfo> superblock_of(const DiskImage& image) {
  return parse_superblock(read(image, kSuperblockOffsetBytes, 512), kDeviceBytes);
}

}  // namespace

TEST_CASE("what is written is the planned volume, on a device that held something else") {
  for (bool discard : {false, true}) {
    Bench bench;
    REQUIRE(bench.format({.discard = discard}));
    CHECK((bench.device.counters().discards > 0) == discard);
    const auto image = VolumeImage::plan(sound(), bench.device.geometry());
    for (const WrittenRange& range : image->written_ranges()) {
      for (BlockNo block = range.start; block < range.start + range.blocks; ++block) {
        BlockBytes expected(4096);
        image->fill(block, expected);
        REQUIRE(read(bench.disk.contents(), block.value * 4096, 4096) == expected);
      }
    }
    CHECK(read(bench.disk.contents(), 0, kSuperblockOffsetBytes) == BlockBytes(kSuperblockOffsetBytes));
    auto info = superblock_of(bench.disk.contents());
    REQUIRE(info);
    CHECK(info->lock_table == "a:b");
  }
}

TEST_CASE("a volume is there once mkfs has ended, whatever the power does then") {
  Bench bench;
  REQUIRE(bench.format());
  const DiskImage after = bench.disk.after({.event = bench.disk.event_count(), .unstable = PowerCut::Unstable::lost});
  CHECK(after == bench.disk.contents());
}

TEST_CASE("a power cut half-way leaves no volume at all") {
  Bench bench;
  REQUIRE(bench.format());
  const DiskImage old = bench.disk.contents();
  bench.disk.forget_history();
  REQUIRE(superblock_of(old));
  REQUIRE(bench.format());
  std::size_t absent = 0;
  // The first write zeroes the old superblock; from its flush until the last write nothing may look like a volume.
  for (std::uint64_t event = 4; event + 4 < bench.disk.event_count(); ++event) {
    auto info =
        superblock_of(bench.disk.after({.event = event, .unstable = PowerCut::Unstable::random, .seed = event}));
    REQUIRE(!info);
    ++absent;
  }
  CHECK(absent > 10);
}

TEST_CASE("a failing device is an error, and a failing discard is not") {
  {
    Bench bench;
    bench.device.add_fault({.operations = SimulatedFault::discards, .code = EOPNOTSUPP});
    REQUIRE(bench.format());
    CHECK(bench.device.counters().discards == 1);
    CHECK(superblock_of(bench.disk.contents()));
  }
  for (std::uint64_t skip : {0u, 1u, 5u}) {
    Bench bench;
    bench.device.add_fault({.operations = SimulatedFault::writes, .skip = skip, .times = 1});
    auto result = bench.format();
    REQUIRE(!result);
    CHECK(result.error().code() == EIO);
    CHECK(!superblock_of(bench.disk.contents()));
  }
  for (std::uint64_t skip : {0u, 2u, 3u}) {
    Bench bench;
    bench.device.add_fault({.operations = SimulatedFault::flushes, .skip = skip, .times = 1});
    CHECK(!bench.format());
  }
}

TEST_CASE("progress rises to the whole") {
  Bench bench;
  std::uint64_t last[2] = {0, 0};
  std::uint64_t total[2] = {0, 0};
  REQUIRE(bench.format({.discard = true, .progress = [&](WritePhase phase, std::uint64_t done, std::uint64_t all) {
                          const auto which = static_cast<std::size_t>(phase);
                          CHECK(done >= last[which]);
                          last[which] = done;
                          total[which] = all;
                        }}));
  CHECK(last[0] == kDeviceBytes);
  CHECK(total[0] == kDeviceBytes);
  CHECK(last[1] == total[1]);
  CHECK(total[1] > 8u << 20);
}

TEST_CASE("format_device plans for the device that it writes to") {
  Bench bench;
  FormatOptions options = sound();
  options.journals = 40;
  auto refused = run_to_end(bench.clock, bench.executor, format_device(bench.executor, bench.device, options));
  REQUIRE(!refused);
  CHECK(refused.error().code() == ENOSPC);
  CHECK(bench.device.counters().writes == 0);
  REQUIRE(run_to_end(bench.clock, bench.executor, format_device(bench.executor, bench.device, sound())));
  CHECK(superblock_of(bench.disk.contents()));
}
