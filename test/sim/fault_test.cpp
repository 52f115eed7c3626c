// Devices that fail and volumes that are full: every operation ends, what was synced stays, the volume stays sound.

#include "base/aligned_buffer.h"
#include "test/sim/world.h"
#include "test/support/must.h"

using namespace corral;
using namespace corral::sim;
using corral::test::must;

namespace {

struct Scene {
  Scene(std::uint64_t seed, std::uint32_t block_size, std::uint64_t mebibytes)
      : random(seed),
        disk(formatted_volume(block_size, mebibytes)),
        world(disk, random.next(), SimulatedDeviceOptions::realistic()),
        options(small_mount(random)) {
    if (auto mounted = world.mount(options, random.next()); !mounted) FAIL("mount: " << mounted.error().describe());
    disk.forget_history();
  }

  void add_clients(std::uint64_t count) {
    for (std::uint64_t i = 0; i < count; ++i) {
      clients.push_back(std::make_unique<Client>(world.filesystem->operations(), disk, world.filesystem->root(),
                                                 fmt::format("client{}", i), random.next()));
    }
  }

  void work(std::uint32_t operations) {
    world.run(run_clients(world.executor, clients, operations));
    for (const auto& client : clients) {
      if (client->disagreement()) FAIL(*client->disagreement());
    }
  }

  Random random;
  SimulatedDisk disk;
  World world;
  MountOptions options;
  std::vector<std::unique_ptr<Client>> clients;
};

constexpr std::uint32_t kBlockSizes[] = {4096, 512, 1024, 2048};

SimulatedFault any_fault(Random& random) {
  constexpr unsigned kKinds[] = {SimulatedFault::reads, SimulatedFault::writes, SimulatedFault::flushes,
                                 SimulatedFault::discards, SimulatedFault::everything};
  SimulatedFault fault;
  fault.operations = kKinds[random.below(std::size(kKinds))];
  fault.per_million = random.chance(1, 2) ? 1'000'000 : 30'000;
  fault.skip = random.below(400);
  if (random.chance(1, 2)) fault.times = random.between(1, 3);
  return fault;
}

/// Writes one file until nothing more fits, then gives a little back; returns its bytes.
Task<Result<std::uint64_t>> fill(Filesystem& filesystem) {
  Operations& operations = filesystem.operations();
  NewNode node;
  node.mode = S_IFREG | 0644;
  CO_TRY(const Entry entry, co_await operations.create(filesystem.root(), "filler", node, Caller{}));
  const AlignedBuffer buffer(1u << 16);
  std::uint64_t size = 0;
  for (;;) {
    auto written = co_await operations.write(entry.attributes.inode, size, buffer.span(), {});
    if (!written && written.error().code() == ENOSPC) break;
    CO_TRY_VOID(written);
    size += *written;
  }
  AttributeChange change;
  size -= std::min<std::uint64_t>(size, 600'000);
  change.size_bytes = size;
  CO_TRY_VOID(co_await operations.set_attributes(entry.attributes.inode, change, Caller{}));
  CO_TRY_VOID(co_await operations.sync());
  co_return size;
}

Task<Result<>> empty_the_root(Filesystem& filesystem, BlockNo directory) {
  Operations& operations = filesystem.operations();
  std::vector<std::pair<std::string, BlockNo>> names;
  auto collect = [&names](std::string_view name, const DirectoryEntry& entry, DirectoryCookie) {
    if (name != "." && name != "..") names.emplace_back(name, entry.address);
    return true;
  };
  CO_TRY_VOID(co_await operations.list(directory, 0, collect));
  for (const auto& [name, inode] : names) {
    CO_TRY(const Entry entry, co_await operations.lookup(directory, name));
    const bool is_directory = S_ISDIR(entry.attributes.mode);
    if (is_directory) CO_TRY_VOID(co_await empty_the_root(filesystem, inode));
    CO_TRY_VOID(is_directory ? co_await operations.remove_directory(directory, name)
                             : co_await operations.unlink(directory, name));
    operations.forget(inode, ~std::uint64_t{0} >> 1);
  }
  co_return Result<>{};
}

Task<Result<std::uint64_t>> free_blocks(Filesystem& filesystem) {
  co_await filesystem.reclaim_finished();
  CO_TRY_VOID(co_await filesystem.operations().sync());
  CO_TRY(const SpaceFigures figures, co_await filesystem.allocator().figures());
  co_return figures.free_blocks;
}

}  // namespace

TEST_CASE("on a device that fails every operation ends, and nothing that was synced is lost", "[fault]") {
  const std::uint64_t first = fresh_seed();
  const std::uint64_t runs = number_from_environment("CORRAL_SEEDS", 40);
  for (std::uint64_t seed = first; seed < first + runs; ++seed) {
    const auto block_size =
        static_cast<std::uint32_t>(number_from_environment("CORRAL_BLOCK_SIZE", kBlockSizes[seed % 4]));
    INFO("replay with: CORRAL_SEEDS=1 CORRAL_SEED=" << seed << " CORRAL_BLOCK_SIZE=" << block_size << " test_sim "
                                                    << "[fault]");
    Scene scene(seed, block_size, 96);
    scene.add_clients(scene.random.between(1, 3));
    for (auto& client : scene.clients)
      client->expect_failure();
    const SimulatedFault fault = any_fault(scene.random);
    INFO("fault: operations " << fault.operations << ", " << fault.per_million << " of a million, after " << fault.skip
                              << ", " << fault.times << " times");
    const std::uint64_t number = scene.world.device.add_fault(fault);
    scene.work(200);
    if (scene.random.chance(1, 2)) scene.world.device.remove_fault(number);
    // After a failed write or flush the mount has withdrawn: this must end too, with or without an error.
    const Result<> unmounted = scene.world.run(scene.world.filesystem->unmount());
    INFO("unmounting: " << (unmounted ? std::string("done") : unmounted.error().describe()));
    const std::uint64_t event = scene.disk.event_count();
    const PowerCut cut{.event = event, .unstable = PowerCut::Unstable::random, .seed = scene.random.next()};
    auto wrong = examine(scene.disk.after(cut), event, scene.clients, scene.options.quota, scene.random.chance(1, 10));
    if (wrong) FAIL(*wrong);
  }
}

TEST_CASE("a full volume refuses with ENOSPC, leaks nothing, and a power cut leaves it sound", "[fault]") {
  constexpr std::uint64_t kMebibytes = 20;
  const std::uint64_t first = fresh_seed();
  const std::uint64_t runs = number_from_environment("CORRAL_SEEDS", 8);
  for (std::uint64_t seed = first; seed < first + runs; ++seed) {
    const auto block_size =
        static_cast<std::uint32_t>(number_from_environment("CORRAL_BLOCK_SIZE", kBlockSizes[seed % 4]));
    INFO("replay with: CORRAL_SEEDS=1 CORRAL_SEED=" << seed << " CORRAL_BLOCK_SIZE=" << block_size << " test_sim "
                                                    << "[fault]");
    Scene scene(seed, block_size, kMebibytes);
    Filesystem& filesystem = *scene.world.filesystem;
    const std::uint64_t free_before = must(scene.world.run(free_blocks(filesystem)));
    CHECK(must(scene.world.run(fill(filesystem))) > 4u << 20);
    scene.add_clients(2);
    for (auto& client : scene.clients)
      client->expect_full();
    scene.work(300);
    const std::uint64_t busy_events = scene.disk.event_count();
    for (int i = 0; i < 10; ++i) {
      const std::uint64_t event = scene.random.below(busy_events + 1);
      const PowerCut cut{.event = event, .unstable = PowerCut::Unstable::random, .seed = scene.random.next()};
      auto wrong = examine(scene.disk.after(cut), event, scene.clients, scene.options.quota, i == 0);
      if (wrong) FAIL("cut after event " << event << " of " << busy_events << ": " << *wrong);
    }
    if (auto emptied = scene.world.run(empty_the_root(filesystem, filesystem.root())); !emptied) {
      FAIL(emptied.error().describe());
    }
    CHECK(must(scene.world.run(free_blocks(filesystem))) == free_before);
    if (auto ended = scene.world.run(filesystem.unmount()); !ended) FAIL(ended.error().describe());
    const std::string complaints = fsck_gfs2(scene.disk.contents());
    CHECK(complaints.empty());
  }
}
