// Power cuts at every moment of a busy mount's life: after replay everything that was synced is there and the volume is
// sound.

#include <fcntl.h>

#include "base/aligned_buffer.h"
#include "base/sanitizers.h"
#include "test/sim/world.h"

using namespace corral;
using namespace corral::sim;

namespace {

struct Story {
  std::uint64_t seed = 0;
  std::uint32_t block_size = 4096;
  std::uint32_t operations = 150;
  std::uint64_t cuts = 100;
  bool long_life = false;  ///< so much work between commits that the log fills up
};

void tell(const Story& story) {
  INFO("replay with: CORRAL_SEED=" << story.seed << " CORRAL_BLOCK_SIZE=" << story.block_size << " test_sim crash");
  Random random(story.seed);
  SimulatedDisk disk(formatted_volume(story.block_size, 96));
  World world(disk, random.next(), SimulatedDeviceOptions::realistic());
  MountOptions options = small_mount(random);
  if (story.long_life) options.commit_interval = std::chrono::hours(1);
  auto mounted = world.mount(options, random.next());
  if (!mounted) FAIL("mount: " << mounted.error().describe());
  disk.forget_history();
  std::vector<std::unique_ptr<Client>> clients;
  for (std::uint64_t i = random.between(1, 3); i > 0; --i) {
    clients.push_back(std::make_unique<Client>(world.filesystem->operations(), disk, world.filesystem->root(),
                                               fmt::format("client{}", i), random.next()));
  }
  world.run(run_clients(world.executor, clients, story.operations));
  for (const auto& client : clients) {
    if (client->disagreement()) FAIL(*client->disagreement());
  }
  const std::uint64_t busy_events = disk.event_count();
  if (auto ended = world.run(world.filesystem->unmount()); !ended) FAIL("unmount: " << ended.error().describe());

  if (auto wrong = examine(disk.contents(), disk.event_count(), clients, options.quota, true))
    FAIL("after unmounting: " << *wrong);
  std::vector<std::uint64_t> moments;
  for (std::uint64_t i = 0; i < story.cuts; ++i)
    moments.push_back(busy_events * i / story.cuts);
  for (std::uint64_t event : moments) {
    const PowerCut cut{.event = event, .unstable = PowerCut::Unstable::random, .seed = random.next()};
    const bool with_fsck = event == moments[moments.size() / 2] || random.chance(1, 100);
    if (auto wrong = examine(disk.after(cut), event, clients, options.quota, with_fsck)) {
      FAIL("cut after event " << event << " of " << busy_events << ", fate " << cut.seed << ": " << *wrong);
    }
  }
}

/// A file grows within the block that its end is in, by cached writes and past the cache; another file is synced
/// meanwhile, which commits the file's size along.
Task<Result<>> grow_beside_a_sync(Filesystem& filesystem) {
  Operations& operations = filesystem.operations();
  NewNode node;
  node.mode = S_IFREG | 0644;
  const std::uint64_t block_size = filesystem.volume().geometry.block_size();
  AlignedBuffer bytes(2 * block_size);
  std::ranges::fill(bytes.span(), std::byte{'x'});
  CO_TRY(const Entry cached, co_await operations.create(filesystem.root(), "cached", node, Caller{}));
  CO_TRY(const Entry direct, co_await operations.create(filesystem.root(), "direct", node, Caller{}));
  CO_TRY(const Entry other, co_await operations.create(filesystem.root(), "other", node, Caller{}));
  for (const Entry* file : {&cached, &direct})
    CO_TRY_VOID(co_await operations.write(file->attributes.inode, 0, bytes.span().first(block_size + 100), {}));
  CO_TRY_VOID(co_await operations.sync());
  CO_TRY_VOID(co_await operations.write(cached.attributes.inode, block_size + 100, bytes.span().first(100), {}));
  Scope scope(filesystem.volume().executor);
  auto write_direct = [](Operations& on, BlockNo inode, std::span<const std::byte> data) -> Task<void> {
    [[maybe_unused]] auto written = co_await on.write(inode, 0, data, {.flags = O_DIRECT});
  };
  scope.spawn(write_direct(operations, direct.attributes.inode, bytes.span()));
  CO_TRY_VOID(co_await operations.write(other.attributes.inode, 0, bytes.span().first(10), {}));
  CO_TRY_VOID(co_await operations.fsync(other.attributes.inode, false));
  co_await scope.join();
  co_return Result<>{};
}

/// Empty if every byte of the file is one that was written.
Task<Result<std::string>> what_was_never_written(Filesystem& filesystem, std::string name) {
  Operations& operations = filesystem.operations();
  auto entry = co_await operations.lookup(filesystem.root(), name);
  if (!entry) co_return std::string();
  AlignedBuffer bytes(1u << 14);
  CO_TRY(const std::size_t length, co_await operations.read(entry->attributes.inode, 0, bytes.span()));
  const auto file = bytes.span().first(length);
  const auto wrong = std::ranges::find_if(file, [](std::byte byte) { return byte != std::byte{'x'}; });
  if (wrong == file.end()) co_return std::string();
  co_return fmt::format("{} of {} bytes has something else at {}", name, length, wrong - file.begin());
}

}  // namespace

TEST_CASE("a size is not there before what the file has gained", "[crash]") {
  for (const std::uint32_t block_size : {4096u, 1024u, 512u}) {
    SimulatedDisk disk(formatted_volume(block_size, 96));
    World world(disk, 1, SimulatedDeviceOptions::realistic());
    MountOptions options;
    options.commit_interval = std::chrono::hours(1);
    REQUIRE(world.mount(options, 2));
    disk.forget_history();
    auto grown = world.run(grow_beside_a_sync(*world.filesystem));
    if (!grown) FAIL(grown.error().describe());
    for (std::uint64_t event = 1; event <= disk.event_count(); ++event) {
      for (const PowerCut::Unstable fate : {PowerCut::Unstable::lost, PowerCut::Unstable::random}) {
        SimulatedDisk after(disk.after({.event = event, .unstable = fate, .seed = event}));
        World again(after, 3, SimulatedDeviceOptions::realistic());
        REQUIRE(again.mount(options, 4));
        for (const char* name : {"cached", "direct"}) {
          INFO("blocks of " << block_size << ", cut after event " << event);
          CHECK(again.run(what_was_never_written(*again.filesystem, name)) == std::string());
        }
        REQUIRE(again.run(again.filesystem->unmount()));
      }
    }
    REQUIRE(world.run(world.filesystem->unmount()));
  }
}

TEST_CASE("who was to look for inodes without a name dies as well, and the next mount does", "[crash]") {
  SimulatedDisk disk(formatted_volume(4096, 96));
  {
    World world(disk, 1, {});
    REQUIRE(world.mount({}, 1).has_value());
    Operations& operations = world.filesystem->operations();
    NewNode regular;
    regular.mode = S_IFREG | 0644;
    auto made = world.run(operations.create(world.filesystem->root(), "file", regular, Caller{}));
    REQUIRE(made.has_value());
    REQUIRE(world.run(operations.open(made->attributes.inode, O_RDWR)).has_value());
    REQUIRE(world.run(operations.unlink(world.filesystem->root(), "file")).has_value());
    REQUIRE(world.run(operations.sync()).has_value());
  }
  for (std::uint64_t life = 2; life < 4; ++life) {
    // It has replayed the journal, and dies before it has done anything else.
    World world(disk, life, {});
    REQUIRE(world.mount({}, life).has_value());
  }
  World world(disk, 4, {});
  REQUIRE(world.mount({}, 4).has_value());
  REQUIRE(world.run(world.filesystem->unmount()).has_value());
  CHECK(fsck_corral(disk.contents()) == "");
}

TEST_CASE("whatever moment the power goes, what was synced is there and the volume is sound", "[crash]") {
  const std::uint64_t fresh = fresh_seed();
  // Ten thousand cuts take half a minute of processor time, under sanitizers several.
  const std::uint64_t runs = number_from_environment("CORRAL_SEEDS", CORRAL_SANITIZED ? 8 : 40);
  const std::uint64_t cuts = number_from_environment("CORRAL_CUTS", CORRAL_SANITIZED ? 60 : 250);
  constexpr std::uint32_t kBlockSizes[] = {4096, 1024, 512, 2048};
  for (std::uint64_t i = 0; i < runs; ++i) {
    Story story;
    story.seed = fresh + i;
    story.block_size = static_cast<std::uint32_t>(number_from_environment("CORRAL_BLOCK_SIZE", kBlockSizes[i % 4]));
    story.cuts = cuts;
    tell(story);
  }
}

TEST_CASE("a power cut while the log is full leaves what was synced and a sound volume", "[crash]") {
  Story story;
  story.seed = fresh_seed();
  story.block_size = static_cast<std::uint32_t>(number_from_environment("CORRAL_BLOCK_SIZE", 512));
  story.operations = 1500;
  story.long_life = true;
  story.cuts = number_from_environment("CORRAL_CUTS", 60);
  tell(story);
}

TEST_CASE("seeds that once found a fault", "[crash]") {
  constexpr Story kFound[] = {
      {.seed = 105, .block_size = 1024},  // a hole punched beyond the reach of a sparse file's tree
      {.seed = 2084666158,
       .block_size = 512},  // syncfs kept a freed inode in memory when its block was given out again
      // The tail moved past a block that was freed by a set that had not committed yet.
      {.seed = 3586114395, .block_size = 512, .operations = 1500, .cuts = 60, .long_life = true},
  };
  for (const Story& story : kFound)
    tell(story);
}
