/// A mount in a simulated world, its clients, and the judgement of what a crash left of it.
#pragma once

#include <cstdlib>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <sys/stat.h>

#include "base/log.h"
#include "disk/disk_image.h"
#include "disk/simulated_device.h"
#include "disk/simulated_disk.h"
#include "fs/filesystem.h"
#include "test/sim/workload.h"
#include "test/support/catch.h"
#include "test/support/environment.h"
#include "test/support/formatted_volume.h"
#include "test/support/fsck_corral.h"
#include "test/support/fsck_gfs2.h"
#include "test/support/manual_clock.h"

namespace corral::sim {

using test::formatted_volume;
using test::fresh_seed;
using test::fsck_corral;
using test::fsck_gfs2;
using test::number_from_environment;

inline MountOptions small_mount(Random& random) {
  MountOptions options;
  options.commit_interval = std::chrono::milliseconds(random.between(2, 200));
  options.cache_bytes = random.between(1, 8) << 20;
  options.data = random.chance(1, 4) ? DataMode::writeback : DataMode::ordered;
  constexpr QuotaMode kQuotaModes[] = {QuotaMode::off, QuotaMode::account, QuotaMode::on};
  options.quota = kQuotaModes[random.below(3)];
  options.discard = random.chance(1, 3);
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
inline Task<std::size_t> run_clients(Executor& executor, std::vector<std::unique_ptr<Client>>& clients,
                                     std::uint32_t operations) {
  Scope scope(executor);
  for (auto& client : clients)
    scope.spawn(client->run(operations));
  co_await scope.join();
  co_return clients.size();
}

/// Blocks by (kind, id), as the inodes of the tree below a directory have them.
using Usage = std::map<std::pair<QuotaKind, std::uint32_t>, std::int64_t>;
inline Task<Result<>> add_usage(Filesystem& filesystem, BlockNo inode, Usage& usage, std::set<BlockNo>& seen) {
  if (!seen.insert(inode).second) co_return Result<>{};
  Operations& operations = filesystem.operations();
  CO_TRY(const Attributes attributes, co_await operations.get_attributes(inode));
  const auto blocks =
      static_cast<std::int64_t>(attributes.blocks_512 * 512 / filesystem.volume().geometry.block_size());
  usage[{QuotaKind::user, attributes.uid}] += blocks;
  usage[{QuotaKind::group, attributes.gid}] += blocks;
  if (!S_ISDIR(attributes.mode)) co_return Result<>{};
  std::vector<std::string> names;
  auto collect = [&names](std::string_view name, const DirectoryEntry&, DirectoryCookie) {
    if (name != "." && name != "..") names.emplace_back(name);
    return true;
  };
  CO_TRY_VOID(co_await operations.list(inode, 0, collect));
  for (const std::string& name : names) {
    CO_TRY(const Entry entry, co_await operations.lookup(inode, name));
    CO_TRY_VOID(co_await add_usage(filesystem, entry.attributes.inode, usage, seen));
    operations.forget(entry.attributes.inode, 1);
  }
  co_return Result<>{};
}

/// Compares the quota's books with the tree; the first difference as a message. Nobody else works on the mount.
inline Task<std::optional<std::string>> compare_quota(Filesystem& filesystem) {
  Usage usage;
  std::set<BlockNo> seen;
  auto walked = co_await add_usage(filesystem, filesystem.root(), usage, seen);
  if (!walked) co_return walked.error().describe();
  for (const auto& [who, blocks] : usage) {
    auto figures = co_await filesystem.allocator().quota_of(who.first, who.second);
    if (!figures) co_return figures.error().describe();
    if (figures->used != blocks) {
      co_return fmt::format("quota of {} {}: {} blocks, the tree has {}",
                            who.first == QuotaKind::user ? "user" : "group", who.second, figures->used, blocks);
    }
  }
  co_return std::nullopt;
}

/// Mounts what was left, compares it with what must be there, unmounts it; with quotas, mounts it again when all that
/// had no name is gone and compares their books. The first thing wrong as a message.
inline std::optional<std::string> examine(DiskImage image, std::uint64_t event,
                                          const std::vector<std::unique_ptr<Client>>& clients, QuotaMode quota,
                                          bool with_fsck) {
  SimulatedDisk disk(std::move(image));
  MountOptions options;
  options.quota = quota == QuotaMode::off ? quota : QuotaMode::account;
  for (const bool books : {false, true}) {
    if (books && quota == QuotaMode::off) break;
    World world(disk, 1, {});
    if (auto mounted = world.mount(options, 1); !mounted) return "mount: " + mounted.error().describe();
    Filesystem& filesystem = *world.filesystem;
    std::optional<std::string> wrong;
    if (books) {
      wrong = world.run(compare_quota(filesystem));
    } else {
      for (const auto& client : clients) {
        if (wrong) break;
        wrong =
            world.run(compare(filesystem.operations(), filesystem.root(), client->name(), client->durable_at(event)));
      }
    }
    if (wrong) return wrong;
    if (auto ended = world.run(filesystem.unmount()); !ended) return "unmount: " + ended.error().describe();
  }
  std::string complaints = fsck_corral(disk.contents());
  if (!complaints.empty()) return "fsck: " + complaints;
  if (!with_fsck) return std::nullopt;
  complaints = fsck_gfs2(disk.contents());
  if (!complaints.empty()) return "fsck.gfs2: " + complaints;
  return std::nullopt;
}

}  // namespace corral::sim
