#include "tools/adopt/adopt.h"

#include "offline/journals.h"
#include "ondisk/checksum.h"
#include "test/support/catch.h"
#include "test/support/formatted_volume.h"
#include "test/support/fsck_gfs2.h"
#include "test/support/must.h"
#include "test/support/simulated_volume.h"
#include "tools/adopt/group_blocks.h"

using namespace corral;
using namespace corral::cluster;
using test::must;
using test::SimulatedVolume;

namespace {

Header sample_header() {
  Header header;
  header.cluster[0] = 0x42;
  return header;
}

DiskImage dlm_volume(std::uint32_t block_size, const std::string& protocol = mkfs::kLockDlm) {
  mkfs::FormatOptions options;
  options.block_size = block_size;
  options.journals = 2;
  options.journal_mebibytes = 8;
  options.lock_table = "a:b";
  options.lock_protocol = protocol;
  return test::formatted_volume(options, 64);
}

AdoptionContext context_of(SimulatedVolume& bench) {
  return {bench.executor, bench.device, {.seconds = 1'700'000'000}, Logger(bench.log)};
}

Task<Result<std::string>> protocol_of(Device& device) {
  CO_TRY(VolumeReader volume, co_await VolumeReader::open(device));
  co_return volume.superblock().lock_protocol;
}

Task<Result<ClusterArea>> open_area(Device& device) {
  CO_TRY(VolumeReader volume, co_await VolumeReader::open(device));
  co_return co_await ClusterArea::find(volume);
}

Task<Result<>> replay_all(Executor& executor, Device& device, Logger log) {
  CO_TRY(VolumeReader volume, co_await VolumeReader::open(device));
  CO_TRY_VOID(co_await replay_offline(executor, volume, {}, log));
  co_return Result<>{};
}

/// Runs `work`, then cuts the power at every moment: after a replay the volume is sound, and the work can be repeated.
template <class Work>
void cut_everywhere(SimulatedVolume& bench, Work work) {
  bench.disk.forget_history();
  must(bench.run(work(bench)));
  const DiskImage done = bench.disk.contents();
  for (std::uint64_t event = 0; event <= bench.disk.event_count(); ++event) {
    INFO("event " << event);
    SimulatedVolume after(bench.disk.after({.event = event, .seed = event}));
    must(after.run(replay_all(after.executor, after.device, Logger(after.log))));
    REQUIRE(test::fsck_gfs2(after.disk.contents()) == "");
    Result<> again = after.run(work(after));
    // EEXIST, EINVAL: nothing was left to do.
    if (!again) REQUIRE((again.error().code() == EEXIST || again.error().code() == EINVAL));
    REQUIRE(test::fsck_gfs2(after.disk.contents()) == "");
    CHECK(must(after.run(protocol_of(after.device))) == must(bench.run(protocol_of(bench.device))));
    CHECK(after.run(open_area(after.device)).has_value() == bench.run(open_area(bench.device)).has_value());
  }
}

}  // namespace

TEST_CASE("a volume is adopted and released, and fsck.gfs2 finds nothing at each step", "[fsck]") {
  for (std::uint32_t block_size : {1024u, 2048u, 4096u}) {
    INFO(block_size);
    SimulatedVolume bench(dlm_volume(block_size));
    must(bench.run(adopt_volume(context_of(bench), sample_header(), {})));
    CHECK(test::fsck_gfs2(bench.disk.contents()) == "");
    CHECK(must(bench.run(protocol_of(bench.device))) == mkfs::kLockCorral);
    const ClusterArea area = must(bench.run(open_area(bench.device)));
    CHECK(must(bench.run(area.read_header())).cluster == sample_header().cluster);
    const auto twice = bench.run(adopt_volume(context_of(bench), sample_header(), {}));
    CHECK(twice.error().code() == EEXIST);
    must(bench.run(release_volume(context_of(bench), mkfs::kLockDlm)));
    CHECK(test::fsck_gfs2(bench.disk.contents()) == "");
    CHECK(must(bench.run(protocol_of(bench.device))) == mkfs::kLockDlm);
    CHECK(bench.run(open_area(bench.device)).error().code() == ENOENT);
    CHECK(bench.run(release_volume(context_of(bench), mkfs::kLockDlm)).error().code() == EINVAL);
  }
}

TEST_CASE("a volume of mkfs.corral can be released and adopted again", "[fsck]") {
  for (std::uint32_t block_size : {512u, 4096u}) {
    SimulatedVolume bench(dlm_volume(block_size, mkfs::kLockCorral));
    must(bench.run(release_volume(context_of(bench), mkfs::kLockNolock)));
    CHECK(test::fsck_gfs2(bench.disk.contents()) == "");
    must(bench.run(adopt_volume(context_of(bench), sample_header(), {})));
    CHECK(test::fsck_gfs2(bench.disk.contents()) == "");
  }
}

TEST_CASE("adopting and releasing, cut anywhere, leave a sound volume and can be repeated", "[fsck]") {
  SimulatedVolume bench(dlm_volume(4096));
  cut_everywhere(bench, [](SimulatedVolume& on) { return adopt_volume(context_of(on), sample_header(), {}); });
  cut_everywhere(bench, [](SimulatedVolume& on) { return release_volume(context_of(on), mkfs::kLockDlm); });
}

TEST_CASE("a volume in use is neither adopted nor released") {
  SimulatedVolume bench(dlm_volume(4096));
  must(bench.run(adopt_volume(context_of(bench), sample_header(), {})));
  const ClusterArea area = must(bench.run(open_area(bench.device)));
  Slot slot{.id = NodeId(1), .state = SlotState::member, .incarnation = Incarnation(3), .name = "beta"};
  must(bench.run(area.write_slot(slot)));
  SECTION("its node lives") {
    Scope node(bench.executor);
    auto beat = [](Executor& executor, const ClusterArea& where, Slot mine) -> Task<void> {
      for (;;) {
        ++mine.heartbeat;
        (void)co_await where.write_slot(mine);
        co_await executor.sleep_for(std::chrono::milliseconds(500));
      }
    };
    node.spawn(beat(bench.executor, area, slot));
    const auto released = bench.run(release_volume(context_of(bench), mkfs::kLockDlm));
    REQUIRE_FALSE(released);
    CHECK(released.error().code() == EBUSY);
    CHECK(released.error().message().find("node beta") != std::string::npos);
    CHECK(must(bench.run(protocol_of(bench.device))) == mkfs::kLockCorral);
  }
  SECTION("its node died and left nothing to replay") {
    must(bench.run(release_volume(context_of(bench), mkfs::kLockDlm)));
  }
}

TEST_CASE("a full leaf of the master directory, as with blocks of 512 bytes, is told and nothing is changed") {
  SimulatedVolume bench(dlm_volume(512));
  const DiskImage before = bench.disk.contents();
  const auto adopted = bench.run(adopt_volume(context_of(bench), sample_header(), {}));
  REQUIRE_FALSE(adopted);
  CHECK(adopted.error().code() == ENOSPC);
  CHECK(adopted.error().message().find("no room for another name") != std::string::npos);
  CHECK(bench.disk.contents() == before);
}

TEST_CASE("a volume without room, or with damage, is left alone") {
  SimulatedVolume bench(dlm_volume(4096));
  auto whole_group = [](Device& device) -> Task<Result<std::vector<ondisk::ResourceGroupIndexEntry>>> {
    CO_TRY(VolumeReader volume, co_await VolumeReader::open(device));
    co_return co_await read_rindex(volume);
  };
  const auto groups = must(bench.run(whole_group(bench.device)));
  for (const auto& entry : groups) {
    AlignedBuffer block(4096);
    must(bench.run(bench.device.read(entry.addr * 4096, block.span())));
    ondisk::view<ondisk::ResourceGroup>(block.span()).free = 3u;
    auto& group = ondisk::view<ondisk::ResourceGroup>(block.span());
    group.crc = ondisk::rgrp_crc(group);
    must(bench.run(bench.device.write(entry.addr * 4096, block.span(), WriteMode::write_through)));
  }
  const DiskImage before = bench.disk.contents();
  const auto adopted = bench.run(adopt_volume(context_of(bench), sample_header(), {}));
  REQUIRE_FALSE(adopted);
  CHECK(adopted.error().code() == ENOSPC);
  CHECK(bench.disk.contents() == before);
}
