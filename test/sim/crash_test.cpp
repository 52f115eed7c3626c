// Power cuts at every moment of a busy mount's life: after replay everything that was synced is there and the volume is
// sound.
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <random>

#include <fmt/format.h>
#include <unistd.h>

#include "base/log.h"
#include "disk/disk_image.h"
#include "disk/simulated_device.h"
#include "disk/simulated_disk.h"
#include "fs/filesystem.h"
#include "fsck/check.h"
#include "test/sim/workload.h"
#include "test/support/catch.h"
#include "test/support/manual_clock.h"
#include "tools/mkfs/write_volume.h"

using namespace corral;
using namespace corral::sim;
using namespace std::chrono_literals;

namespace {

std::uint64_t number_from_environment(const char* name, std::uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text != nullptr ? std::strtoull(text, nullptr, 0) : otherwise;
}

DiskImage formatted(std::uint32_t block_size) {
  ManualClock clock;
  Executor executor(clock);
  SimulatedDisk disk(DiskImage(96u << 20));
  SimulatedDevice device(executor, disk, 1);
  mkfs::FormatOptions options;
  options.block_size = block_size;
  options.journal_mebibytes = 8;
  options.lock_protocol = mkfs::kLockNolock;
  Result<> done = run_to_end(clock, executor, mkfs::format_device(executor, device, options));
  if (!done) FAIL("format: " << done.error().describe());
  return disk.contents();
}

MountOptions small_mount(Random& random) {
  MountOptions options;
  options.commit_interval = std::chrono::milliseconds(random.between(2, 200));
  options.cache_bytes = random.between(1, 8) << 20;
  options.data = random.chance(1, 4) ? DataMode::writeback : DataMode::ordered;
  options.quota = random.chance(1, 2) ? QuotaMode::account : QuotaMode::off;
  return options;
}

/// A mount of its own world: clock, executor and device over a disk.
struct World {
  explicit World(SimulatedDisk& disk_to_use, std::uint64_t seed, SimulatedDeviceOptions device_options)
      : device(executor, disk_to_use, seed, std::move(device_options)) {}

  template <class T>
  T run(Task<T> task) {
    return run_to_end(clock, executor, std::move(task));
  }
  Result<> mount(MountOptions options, std::uint64_t seed) {
    auto mounted = run(Filesystem::mount({executor, device, sink, seed}, std::move(options)));
    if (!mounted) return std::unexpected(mounted.error());
    filesystem = std::move(*mounted);
    return {};
  }

  ManualClock clock;
  Executor executor{clock};
  SimulatedDevice device;
  NullLogSink sink;
  std::unique_ptr<Filesystem> filesystem;
};

/// Returns how many there were.
Task<std::size_t> run_clients(Executor& executor, std::vector<std::unique_ptr<Client>>& clients,
                              std::uint32_t operations) {
  Scope scope(executor);
  for (auto& client : clients)
    scope.spawn(client->run(operations));
  co_await scope.join();
  co_return clients.size();
}

/// What gfs2-utils say of the volume; empty if they find nothing, or are not installed.
std::string fsck_gfs2(const DiskImage& image) {
  if (::access("/usr/sbin/fsck.gfs2", X_OK) != 0) return {};
  const std::string path =
      (std::filesystem::temp_directory_path() / fmt::format("corral-sim-{}.img", ::getpid())).string();
  if (auto saved = image.save(path); !saved) return saved.error().describe();
  FILE* pipe = ::popen(fmt::format("/usr/sbin/fsck.gfs2 -n {} 2>&1", path).c_str(), "r");
  std::string output;
  char buffer[4096];
  while (std::size_t got = std::fread(buffer, 1, sizeof(buffer), pipe))
    output.append(buffer, got);
  const int status = ::pclose(pipe);
  std::filesystem::remove(path);
  return status == 0 ? std::string{} : output;
}

/// What our own checker says of the volume; empty if it finds nothing.
std::string fsck_corral(const DiskImage& image) {
  SimulatedDisk disk(image);
  World world(disk, 1, {});
  std::string complaints;
  fsck::Findings findings([&complaints](const fsck::Finding& finding) {
    complaints += finding.problem + "\n";
    return fsck::Outcome::told;
  });
  auto report = world.run(fsck::check_volume(world.executor, world.device, findings, {}, Logger(world.sink)));
  if (!report) complaints += report.error().describe();
  return complaints;
}

/// Mounts what a cut left, compares it, unmounts it. The first thing wrong as a message.
std::optional<std::string> examine(DiskImage image, std::uint64_t event,
                                   const std::vector<std::unique_ptr<Client>>& clients, bool with_fsck) {
  SimulatedDisk disk(std::move(image));
  World world(disk, 1, {});
  if (auto mounted = world.mount({}, 1); !mounted) return "mount: " + mounted.error().describe();
  for (const auto& client : clients) {
    auto different = world.run(
        compare(world.filesystem->operations(), world.filesystem->root(), client->name(), client->durable_at(event)));
    if (different) return different;
  }
  if (auto ended = world.run(world.filesystem->unmount()); !ended) return "unmount: " + ended.error().describe();
  std::string complaints = fsck_corral(disk.contents());
  if (!complaints.empty()) return "fsck: " + complaints;
  if (!with_fsck) return std::nullopt;
  complaints = fsck_gfs2(disk.contents());
  if (!complaints.empty()) return "fsck.gfs2: " + complaints;
  return std::nullopt;
}

struct Story {
  std::uint64_t seed = 0;
  std::uint32_t block_size = 4096;
  std::uint32_t operations = 150;
  std::uint64_t cuts = 100;
};

void tell(const Story& story) {
  INFO("replay with: CORRAL_SEED=" << story.seed << " CORRAL_BLOCK_SIZE=" << story.block_size << " test_sim crash");
  Random random(story.seed);
  SimulatedDisk disk(formatted(story.block_size));
  World world(disk, random.next(), SimulatedDeviceOptions::realistic());
  const MountOptions options = small_mount(random);
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

  if (auto wrong = examine(disk.contents(), disk.event_count(), clients, true)) FAIL("after unmounting: " << *wrong);
  std::vector<std::uint64_t> moments;
  for (std::uint64_t i = 0; i < story.cuts; ++i)
    moments.push_back(busy_events * i / story.cuts);
  for (std::uint64_t event : moments) {
    const PowerCut cut{.event = event, .unstable = PowerCut::Unstable::random, .seed = random.next()};
    const bool with_fsck = event == moments[moments.size() / 2] || random.chance(1, 100);
    if (auto wrong = examine(disk.after(cut), event, clients, with_fsck)) {
      FAIL("cut after event " << event << " of " << busy_events << ", fate " << cut.seed << ": " << *wrong);
    }
  }
}

}  // namespace

TEST_CASE("whatever moment the power goes, what was synced is there and the volume is sound", "[crash]") {
  const std::uint64_t fresh = number_from_environment("CORRAL_SEED", std::random_device{}());
  const std::uint64_t runs = number_from_environment("CORRAL_SEEDS", 4);
  const std::uint64_t cuts = number_from_environment("CORRAL_CUTS", 60);
  constexpr std::uint32_t kBlockSizes[] = {4096, 1024, 512, 2048};
  for (std::uint64_t i = 0; i < runs; ++i) {
    Story story;
    story.seed = fresh + i;
    story.block_size = static_cast<std::uint32_t>(number_from_environment("CORRAL_BLOCK_SIZE", kBlockSizes[i % 4]));
    story.cuts = cuts;
    tell(story);
  }
}

TEST_CASE("seeds that once found a fault", "[crash]") {
  constexpr Story kFound[] = {
      {.seed = 105, .block_size = 1024},  // a hole punched beyond the reach of a sparse file's tree
  };
  for (const Story& story : kFound)
    tell(story);
}
