#include "test/sim/cluster/judge.h"

#include "fs/filesystem.h"
#include "offline/totals.h"
#include "test/sim/cluster/simulation.h"
#include "test/support/fsck_corral.h"
#include "test/support/fsck_gfs2.h"

namespace corral::sim {

namespace {

/// A disk with one node at it and nobody else, in a time of its own.
struct Alone {
  explicit Alone(const DiskImage& image) : disk(image), device(executor, disk, 1) {}
  template <class T>
  T run(Task<T> task) {
    return run_to_end(clock, executor, std::move(task));
  }

  ManualClock clock;
  Executor executor{clock};
  SimulatedDisk disk;
  SimulatedDevice device;
  NullLogSink sink;
};

Task<Result<>> replay_all(Alone& alone) {
  CO_TRY(const VolumeReader reader, co_await VolumeReader::open(alone.device));
  CO_TRY_VOID(co_await replay_offline(alone.executor, reader, {}, Logger(alone.sink)));
  co_return co_await settle_totals(alone.executor, reader, Logger(alone.sink));
}

/// Frees what had no name any more, as the next first mount would.
Task<Result<>> mount_and_unmount(Alone& alone) {
  MountOptions options;
  options.lock_protocol = "lock_nolock";
  CO_TRY(const auto filesystem, co_await Filesystem::mount({alone.executor, alone.device, alone.sink, 1}, options));
  co_return co_await filesystem->unmount();
}

void forget_journals(DiskImage& image, const VolumeMap& map) {
  for (const OfflineJournal& journal : map.journals) {
    for (const JournalMap::Extent& extent : journal.map.extents())
      image.fill(extent.start.value << map.block_shift, std::uint64_t{extent.length} << map.block_shift, std::byte{0});
  }
}

/// Whether replaying that was cut off anywhere and begun again leaves what it leaves undisturbed.
std::optional<std::string> replay_again(const DiskImage& volume, const DiskImage& replayed, Random& random) {
  Alone first(volume);
  if (auto done = first.run(replay_all(first)); !done) return "replay: " + done.error().describe();
  const PowerCut cut{.event = random.below(first.disk.event_count() + 1), .seed = random.next()};
  Alone second(first.disk.after(cut));
  if (auto done = second.run(replay_all(second)); !done) return "replay, begun again: " + done.error().describe();
  DiskImage once = replayed;
  DiskImage twice = second.disk.contents();
  const VolumeMap map(volume);
  forget_journals(once, map);
  forget_journals(twice, map);
  if (once == twice) return std::nullopt;
  return "replay that was cut off and begun again leaves another volume than replay in one go";
}

}  // namespace

VolumeMap::VolumeMap(const DiskImage& volume) {
  Alone alone(volume);
  auto read = [](Alone& in, VolumeMap& map) -> Task<Result<>> {
    CO_TRY(const VolumeReader reader, co_await VolumeReader::open(in.device));
    map.block_shift = reader.geometry().block_shift();
    CO_TRY(map.journals, co_await find_journals(reader));
    co_return Result<>{};
  };
  const Result<> done = alone.run(read(alone, *this));
  CHECK_INVARIANT(done.has_value());
}

std::optional<std::string> check_clean_volume(const DiskImage& volume, bool with_fsck_gfs2) {
  std::string complaints = test::fsck_corral(volume);
  if (!complaints.empty()) return "fsck.corral: " + complaints;
  if (!with_fsck_gfs2) return std::nullopt;
  complaints = test::fsck_gfs2(volume);
  if (!complaints.empty()) return "fsck.gfs2: " + complaints;
  return std::nullopt;
}

std::optional<std::string> check_crashed_volume(const DiskImage& volume, Random& random) {
  Alone alone(volume);
  if (auto done = alone.run(replay_all(alone)); !done) return "replay: " + done.error().describe();
  if (auto wrong = replay_again(volume, alone.disk.contents(), random)) return wrong;
  // The mount that replays also looks for inodes without a name.
  Alone mounted(volume);
  if (auto done = mounted.run(mount_and_unmount(mounted)); !done) return "mount: " + done.error().describe();
  const std::string complaints = test::fsck_corral(mounted.disk.contents());
  if (!complaints.empty()) return "fsck.corral: " + complaints;
  return std::nullopt;
}

std::optional<std::string> check_frozen_volume(const DiskImage& volume) {
  Alone alone(volume);
  auto look = [](Alone& in) -> Task<Result<bool>> {
    CO_TRY(const VolumeReader reader, co_await VolumeReader::open(in.device));
    OfflineReplayOptions how;
    how.dry_run = true;
    CO_TRY(const auto journals, co_await replay_offline(in.executor, reader, how, Logger(in.sink)));
    co_return std::ranges::all_of(journals, [](const OfflineReplay& one) { return one.report.head.clean(); });
  };
  const Result<bool> clean = alone.run(look(alone));
  if (!clean) return "journals: " + clean.error().describe();
  if (!*clean) return "a journal of a frozen volume is not clean";
  if (auto done = alone.run(mount_and_unmount(alone)); !done) return "mount: " + done.error().describe();
  const std::string complaints = test::fsck_corral(alone.disk.contents());
  if (!complaints.empty()) return "fsck.corral: " + complaints;
  return std::nullopt;
}

void check_private_trees(Simulation& simulation) {
  struct Check {
    bool done = false;
  } check;
  auto look = [](Simulation& in, Host& on, Check& out) -> Task<void> {
    for (auto& host : in.hosts) {
      for (const Host::PrivateTree& tree : host->private_trees) {
        const std::uint64_t moment = tree.end_event != 0 ? tree.end_event : in.disk.event_count();
        const auto wrong = co_await compare(on.mount().operations(), on.mount().root(), tree.client->name(),
                                            tree.client->durable_at(moment));
        if (wrong) in.fail_run(fmt::format("seen from node {}: {}", on.name(), *wrong));
      }
    }
    out.done = true;
  };
  Host& host = *simulation.any_host_up(simulation.random);
  host.work().spawn(look(simulation, host, check));
  simulation.wait_for([&check] { return check.done; }, "the look at the clients' own trees does not end");
}

}  // namespace corral::sim
