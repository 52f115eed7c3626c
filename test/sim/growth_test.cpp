// Volumes that become larger while they are mounted: cut off at every write, and seen by all nodes.
#include "test/sim/world.h"
#include "test/support/fsck_gfs2.h"
#include "test/support/mounted_cluster.h"
#include "test/support/must.h"

using namespace corral;
using namespace corral::sim;
using test::must;

namespace {

constexpr std::uint64_t kVolumeMebibytes = 64;

/// A volume that takes a part of its device only.
DiskImage small_volume(mkfs::FormatOptions options, std::uint64_t device_mebibytes, std::uint64_t volume_mebibytes) {
  options.journal_mebibytes = 8;
  options.block_count = (volume_mebibytes << 20) / options.block_size;
  return test::formatted_volume(options, device_mebibytes);
}

DiskImage lone_volume(std::uint32_t block_size, std::uint64_t device_mebibytes) {
  mkfs::FormatOptions options;
  options.block_size = block_size;
  options.lock_protocol = mkfs::kLockNolock;
  return small_volume(options, device_mebibytes, kVolumeMebibytes);
}

SpaceFigures figures_of(World& world) {
  return must(world.run(world.filesystem->allocator().figures()));
}

/// Grown as far as the device goes, whatever was there before, and sound: nothing was lost, and all of it can be used.
void finish_growing(DiskImage image, std::uint64_t expected_total, std::uint64_t used) {
  SimulatedDisk disk(std::move(image));
  World world(disk, 3, SimulatedDeviceOptions::realistic());
  REQUIRE(world.mount({}, 4));
  const VolumeGrowth growth = must(world.run(world.filesystem->allocator().grow(false)));
  CHECK(growth.total_blocks == expected_total);
  const SpaceFigures figures = figures_of(world);
  CHECK(figures.total_blocks == expected_total);
  CHECK(figures.total_blocks - figures.free_blocks >= used);
  CHECK(must(world.run(world.filesystem->allocator().grow(false))).groups == 0);
  REQUIRE(world.run(world.filesystem->unmount()));
  CHECK(test::fsck_corral(disk.contents()) == "");
}

Task<Result<>> fill(Operations& operations, BlockNo root, std::string name, std::uint64_t mebibytes) {
  NewNode node;
  node.mode = S_IFREG | 0644;
  CO_TRY(const Entry file, co_await operations.create(root, name, node, Caller{}));
  AlignedBuffer bytes(1 << 20);
  std::ranges::fill(bytes.span(), std::byte{'x'});
  for (std::uint64_t i = 0; i < mebibytes; ++i)
    CO_TRY_VOID(co_await operations.write(file.attributes.inode, i << 20, bytes.span(), {}));
  co_return Result<>{};
}

}  // namespace

TEST_CASE("a volume grows while it is mounted, and the kernel's tools agree", "[growth]") {
  for (const std::uint32_t block_size : {4096u, 1024u, 512u}) {
    INFO("blocks of " << block_size);
    SimulatedDisk disk(lone_volume(block_size, 700));
    World world(disk, 1, {});
    REQUIRE(world.mount({}, 2));
    Allocator& allocator = world.filesystem->allocator();
    const SpaceFigures before = figures_of(world);

    const std::uint64_t events = disk.event_count();
    const VolumeGrowth planned = must(world.run(allocator.grow(true)));
    CHECK(disk.event_count() == events);
    CHECK(planned.groups > 4);
    CHECK(planned.total_blocks == before.total_blocks + planned.blocks);

    const VolumeGrowth growth = must(world.run(allocator.grow(false)));
    CHECK(growth.groups == planned.groups);
    CHECK(growth.blocks == planned.blocks);
    const SpaceFigures after = figures_of(world);
    CHECK(after.total_blocks == before.total_blocks + growth.blocks);
    CHECK(after.free_blocks - before.free_blocks <= growth.blocks);
    // The index itself may have taken a few.
    CHECK(after.free_blocks - before.free_blocks + 8 >= growth.blocks);
    CHECK(after.dinodes == before.dinodes);

    REQUIRE(world.run(fill(world.filesystem->operations(), world.filesystem->root(), "large", 300)));
    CHECK(must(world.run(allocator.grow(false))).groups == 0);
    REQUIRE(world.run(world.filesystem->unmount()));
    CHECK(test::fsck_corral(disk.contents()) == "");
    CHECK(test::fsck_gfs2(disk.contents()) == "");
    World again(disk, 5, {});
    REQUIRE(again.mount({}, 6));
    CHECK(figures_of(again).total_blocks == after.total_blocks);
    REQUIRE(again.run(again.filesystem->unmount()));
  }
}

TEST_CASE("growing that is stopped adds nothing, and growing again does", "[growth]") {
  SimulatedDisk disk(lone_volume(4096, 300));
  World world(disk, 1, {});
  REQUIRE(world.mount({}, 2));
  const SpaceFigures before = figures_of(world);
  std::stop_source stop;
  stop.request_stop();
  const auto stopped = world.run(world.filesystem->allocator().grow(false, stop.get_token()));
  REQUIRE_FALSE(stopped);
  CHECK(stopped.error().code() == ECANCELED);
  CHECK(figures_of(world).total_blocks == before.total_blocks);
  CHECK(must(world.run(world.filesystem->allocator().grow(false))).groups > 0);
  REQUIRE(world.run(world.filesystem->unmount()));
  CHECK(test::fsck_gfs2(disk.contents()) == "");
}

TEST_CASE("cut off at every moment, growing leaves a sound volume that grows on", "[growth][crash]") {
  // The index of blocks of 512 bytes gets blocks of its own; that of 4096 stays in its inode.
  for (const std::uint32_t block_size : {512u, 4096u}) {
    SimulatedDisk disk(lone_volume(block_size, 140));
    World world(disk, 1, SimulatedDeviceOptions::realistic());
    REQUIRE(world.mount({}, 2));
    REQUIRE(world.run(fill(world.filesystem->operations(), world.filesystem->root(), "file", 3)));
    REQUIRE(world.run(world.filesystem->operations().sync()));
    const SpaceFigures before = figures_of(world);
    disk.forget_history();
    const VolumeGrowth growth = must(world.run(world.filesystem->allocator().grow(false)));
    REQUIRE(world.run(world.filesystem->unmount()));
    finish_growing(disk.contents(), growth.total_blocks, before.total_blocks - before.free_blocks);
    for (std::uint64_t event = 0; event <= disk.event_count(); ++event) {
      for (const PowerCut::Unstable fate : {PowerCut::Unstable::lost, PowerCut::Unstable::random}) {
        INFO("blocks of " << block_size << ", cut after event " << event << " of " << disk.event_count());
        finish_growing(disk.after({.event = event, .unstable = fate, .seed = event}), growth.total_blocks,
                       before.total_blocks - before.free_blocks);
      }
    }
  }
}

TEST_CASE("all nodes see what one has added, and two that grow the volume do it once", "[growth]") {
  const std::uint64_t seed = fresh_seed();
  INFO("CORRAL_SEED=" << seed);
  mkfs::FormatOptions options;
  options.journals = 3;
  options.lock_table = "test:shared";
  test::MountedCluster cluster(3, seed, small_volume(options, 500, 120));
  const std::uint64_t total = cluster.must(cluster.nodes[0]->filesystem->allocator().figures()).total_blocks;
  std::vector<VolumeGrowth> grown(2);
  auto grow = [](test::MountedCluster& nodes, std::uint32_t number, VolumeGrowth& growth) -> Task<void> {
    auto done = co_await nodes.nodes[number]->filesystem->allocator().grow(false);
    CHECK(done.has_value());
    if (done) growth = *done;
  };
  auto work = [](test::MountedCluster& nodes, std::uint32_t number) -> Task<void> {
    for (int i = 0; i < 4; ++i)
      CHECK(co_await fill(nodes[number], nodes.root(), fmt::format("beside-{}-{}", number, i), 2));
  };
  std::vector<Task<void>> tasks;
  for (std::uint32_t node = 0; node < 2; ++node)
    tasks.push_back(grow(cluster, node, grown[node]));
  for (std::uint32_t node = 0; node < 3; ++node)
    tasks.push_back(work(cluster, node));
  cluster.together(std::move(tasks));
  // One of them did it, the other found it done.
  CHECK((grown[0].groups == 0) != (grown[1].groups == 0));
  const std::uint64_t added = grown[0].blocks + grown[1].blocks;
  CHECK(added > 0);
  for (const auto& node : cluster.nodes)
    CHECK(cluster.must(node->filesystem->allocator().figures()).total_blocks == total + added);

  // More than there was room for: the node that grew nothing uses the new groups, the others read and free what is in
  // them.
  cluster.must(fill(cluster[2], cluster.root(), "large", 250));
  std::vector<Task<void>> removals;
  auto remove = [](test::MountedCluster& nodes) -> Task<void> {
    auto entry = co_await nodes[1].lookup(nodes.root(), "large");
    CHECK(entry.has_value());
    if (!entry) co_return;
    AlignedBuffer bytes(1 << 20);
    CHECK(co_await nodes[1].read(entry->attributes.inode, std::uint64_t{249} << 20, bytes.span()));
    CHECK(bytes.span().front() == std::byte{'x'});
    nodes[1].forget(entry->attributes.inode, 1);
    CHECK(co_await nodes[1].unlink(nodes.root(), "large"));
  };
  removals.push_back(remove(cluster));
  cluster.together(std::move(removals));
  cluster.unmount_all();
  cluster.check_volume();
}

TEST_CASE("a node that dies while it grows the volume leaves the rest to another", "[growth]") {
  const std::uint64_t seed = fresh_seed();
  INFO("CORRAL_SEED=" << seed);
  mkfs::FormatOptions options;
  options.journals = 2;
  options.lock_table = "test:shared";
  for (int rounds = 0; rounds < 6; ++rounds) {
    test::MountedCluster cluster(2, seed + static_cast<std::uint64_t>(rounds), small_volume(options, 400, 100));
    const std::uint64_t total = cluster.must(cluster.nodes[0]->filesystem->allocator().figures()).total_blocks;
    {
      Scope scope(cluster.executor);
      auto grow = [](Allocator& allocator) -> Task<void> { static_cast<void>(co_await allocator.grow(false)); };
      scope.spawn(grow(cluster.nodes[0]->filesystem->allocator()));
      const std::uint64_t writes = cluster.disk.event_count() + static_cast<std::uint64_t>(rounds);
      const Time deadline = cluster.clock.now() + std::chrono::seconds(60);
      cluster.clock.run_until(cluster.executor, [&] {
        return scope.running() == 0 || cluster.disk.event_count() > writes || cluster.clock.now() > deadline;
      });
    }
    cluster.kill(0);
    const VolumeGrowth growth = cluster.must(cluster.nodes[1]->filesystem->allocator().grow(false));
    CHECK(growth.total_blocks > total);
    CHECK(cluster.must(cluster.nodes[1]->filesystem->allocator().figures()).total_blocks <= growth.total_blocks);
    cluster.wait_until_recovered();
    cluster.unmount_all();
    cluster.check_volume();
  }
}
