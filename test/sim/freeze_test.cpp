// Frozen volumes: a copy of the device is clean, changes wait, whoever dies or leaves.
#include "test/sim/world.h"
#include "test/support/mounted_cluster.h"
#include "test/support/must.h"

using namespace corral;
using namespace corral::sim;
using namespace corral::test;
using namespace std::chrono_literals;

namespace {

constexpr Duration kPatience = 60s;

/// What is stable of the device now, whatever of the rest is lost: every journal is clean, so nothing is replayed, and
/// both checkers find nothing. Where there are inodes without links, still open or relied on another node to be freed,
/// they find nothing after a mount of the copy.
void check_copy(SimulatedDisk& disk, bool orphans = false) {
  DiskImage copy = disk.after({.event = disk.event_count(), .unstable = PowerCut::Unstable::lost});
  {
    SimulatedDisk looked_at(copy);
    ManualClock clock;
    Executor executor{clock};
    SimulatedDevice device(executor, looked_at, 1);
    NullLogSink sink;
    auto look = [](Executor& in, SimulatedDevice& on, NullLogSink& log) -> Task<Result<>> {
      CO_TRY(const VolumeReader reader, co_await VolumeReader::open(on));
      OfflineReplayOptions how;
      how.dry_run = true;
      CO_TRY(const auto found, co_await replay_offline(in, reader, how, Logger(log)));
      for (const OfflineReplay& replay : found)
        CHECK(replay.report.head.clean());
      co_return Result<>{};
    };
    must(run_to_end(clock, executor, look(executor, device, sink)));
  }
  if (!orphans) {
    CHECK(fsck_corral(copy) == "");
    CHECK(fsck_gfs2(copy) == "");
  }
  SimulatedDisk disk_of_copy(copy);
  World world(disk_of_copy, 7, SimulatedDeviceOptions::realistic());
  MountOptions options;
  options.lock_protocol = "lock_nolock";
  REQUIRE(world.mount(options, 8));
  REQUIRE(world.run(world.filesystem->unmount()));
  CHECK(fsck_corral(disk_of_copy.contents()) == "");
  CHECK(fsck_gfs2(disk_of_copy.contents()) == "");
}

/// Makes and writes files until told to stop, and removes them or moves them about; counts what it has done.
struct Worker {
  bool removes = false;
  std::uint64_t done = 0;
  bool stop = false;
};

Task<void> work(Executor& executor, Operations& operations, BlockNo root, std::string name, Worker& worker) {
  for (std::uint64_t i = 0; !worker.stop; ++i) {
    const std::string file = fmt::format("{}-{}", name, worker.removes ? i % 5 : i / 2);
    auto made = co_await create(operations, root, file, regular());
    if (made) {
      // Not checked where it is awaited: the node may die there.
      const auto written = co_await write(operations, *made, 0, std::string(20'000, 'x'));
      CHECK(written);
      if (i % 3 == 0) {
        const auto synced = co_await operations.fsync(*made, false);
        CHECK(synced);
      }
      operations.forget(*made, 1);
    } else {
      CHECK(made.error().code() == EEXIST);
      const std::string other = file + "-other";
      const auto removed = worker.removes ? co_await operations.unlink(root, file)
                                          : co_await operations.rename(root, file, root, other, RenameMode::no_replace);
      CHECK(removed);
    }
    ++worker.done;
    co_await executor.sleep_for(1ms);
  }
}

/// The cluster goes on for a while.
void pass(MountedCluster& cluster, Duration time) {
  auto sleep = [](Executor& executor, Duration duration) -> Task<int> {
    co_await executor.sleep_for(duration);
    co_return 0;
  };
  cluster.run(sleep(cluster.executor, time));
}

Freezer& freezer(MountedCluster& cluster, std::uint32_t node) {
  return cluster.nodes[node]->filesystem->freezer();
}

/// Workers on every node, which end with it.
struct Workers {
  explicit Workers(MountedCluster& in, bool removing = false) : cluster(in) {
    for (std::uint32_t i = 0; i < cluster.nodes.size(); ++i) {
      workers.push_back(std::make_unique<Worker>(Worker{.removes = removing}));
      scopes.push_back(std::make_unique<Scope>(cluster.executor));
      scopes[i]->spawn(work(cluster.executor, cluster[i], cluster.root(), fmt::format("node-{}", i), *workers[i]));
    }
  }
  std::uint64_t done() const {
    std::uint64_t sum = 0;
    for (const auto& worker : workers)
      sum += worker->done;
    return sum;
  }
  void end() {
    for (auto& worker : workers)
      worker->stop = true;
    auto join = [](Workers& all) -> Task<int> {
      for (auto& scope : all.scopes)
        if (scope) co_await scope->join();
      co_return 0;
    };
    cluster.run(join(*this));
  }
  /// The node dies, and its worker.
  void kill(std::uint32_t node) {
    scopes[node].reset();
    cluster.kill(node);
  }
  MountedCluster& cluster;
  std::vector<std::unique_ptr<Worker>> workers;
  std::vector<std::unique_ptr<Scope>> scopes;
};

}  // namespace

TEST_CASE("a copy of a frozen volume is clean, and work goes on after the thaw", "[freeze]") {
  const std::uint64_t seed = fresh_seed();
  for (std::uint64_t round = 0; round < 5; ++round) {
    INFO("CORRAL_SEED=" << seed << ", round " << round);
    MountedCluster cluster(3, seed + round);
    const BlockNo file = cluster.must(create(cluster[1], cluster.root(), "file", regular()));
    cluster.must(write(cluster[1], file, 0, "not synced"));
    Workers workers(cluster);
    pass(cluster, Duration(300ms * (round + 1)));
    cluster.must(freezer(cluster, 0).freeze(kPatience));
    const std::uint64_t done = workers.done();
    CHECK(done > 0);
    check_copy(cluster.disk);

    // Everybody can read, and nobody changes anything.
    for (std::uint32_t node = 0; node < 3; ++node) {
      const BlockNo found = cluster.must(find(cluster[node], cluster.root(), "file"));
      CHECK(cluster.must(read_all(cluster[node], found)) == "not synced");
      cluster.run([](Operations& operations, BlockNo inode) -> Task<int> {
        co_await operations.accessed(inode);
        co_return 0;
      }(cluster[node], found));
    }
    pass(cluster, 40s);
    CHECK(workers.done() == done);
    for (std::uint32_t node = 0; node < 3; ++node) {
      REQUIRE(freezer(cluster, node).frozen());
      CHECK(freezer(cluster, node).frozen()->by == cluster.nodes[0]->node->journal());
      CHECK(freezer(cluster, node).frozen_here() == (node == 0));
    }
    check_copy(cluster.disk);

    // Whoever thaws it.
    cluster.must(freezer(cluster, static_cast<std::uint32_t>(round % 3)).thaw());
    pass(cluster, 1s);
    CHECK(workers.done() > done);
    for (std::uint32_t node = 0; node < 3; ++node)
      CHECK_FALSE(freezer(cluster, node).frozen());
    workers.end();
    cluster.unmount_all();
    cluster.check_volume();
  }
}

TEST_CASE("a volume is frozen once, by whoever it is, and again after a thaw", "[freeze]") {
  const std::uint64_t seed = fresh_seed();
  INFO("CORRAL_SEED=" << seed);
  MountedCluster cluster(3, seed);
  Workers workers(cluster);
  for (std::uint32_t node = 0; node < 3; ++node) {
    const auto not_frozen = cluster.run(freezer(cluster, node).thaw());
    REQUIRE_FALSE(not_frozen);
    CHECK(not_frozen.error().code() == EINVAL);
  }
  std::vector<int> codes;
  std::vector<Task<void>> tasks;
  auto freeze = [](Freezer& with, std::vector<int>& out) -> Task<void> {
    const auto frozen = co_await with.freeze(kPatience);
    out.push_back(frozen ? 0 : frozen.error().code());
  };
  for (std::uint32_t node = 0; node < 3; ++node)
    tasks.push_back(freeze(freezer(cluster, node), codes));
  cluster.together(std::move(tasks));
  CHECK(std::ranges::count(codes, 0) == 1);
  CHECK(std::ranges::count(codes, EBUSY) == 2);
  for (std::uint32_t node = 0; node < 3; ++node) {
    const auto again = cluster.run(freezer(cluster, node).freeze(kPatience));
    REQUIRE_FALSE(again);
    CHECK(again.error().code() == EBUSY);
    CHECK(again.error().describe().find(freezer(cluster, node).frozen_here() ? "by this node" : "by the node with") !=
          std::string::npos);
  }
  check_copy(cluster.disk);
  for (std::uint32_t node = 0; node < 3; ++node) {
    cluster.must(freezer(cluster, node).thaw());
    cluster.must(freezer(cluster, (node + 1) % 3).freeze(kPatience));
    check_copy(cluster.disk);
  }
  cluster.must(freezer(cluster, 2).thaw());
  workers.end();
  cluster.unmount_all();
  cluster.check_volume();
}

TEST_CASE("who has frozen the volume dies, and it is thawed", "[freeze]") {
  const std::uint64_t seed = fresh_seed();
  for (std::uint64_t round = 0; round < 8; ++round) {
    INFO("CORRAL_SEED=" << seed << ", round " << round);
    MountedCluster cluster(3, seed + round);
    Workers workers(cluster, true);
    pass(cluster, 500ms);
    {
      // Frozen, or in the middle of freezing.
      Scope scope(cluster.executor);
      auto freeze = [](Freezer& with) -> Task<void> { static_cast<void>(co_await with.freeze(kPatience)); };
      scope.spawn(freeze(freezer(cluster, 1)));
      pass(cluster, round % 2 == 0 ? Duration(2s) : Duration(1ms * round * round));
    }
    workers.kill(1);
    cluster.wait_until_recovered();
    const std::uint64_t done = workers.done();
    pass(cluster, 2s);
    CHECK(workers.done() > done);
    // It is nobody's any more.
    cluster.must(freezer(cluster, 2).freeze(kPatience));
    check_copy(cluster.disk, true);
    cluster.must(freezer(cluster, 0).thaw());
    workers.end();
    cluster.unmount_all();
    cluster.check_volume();
  }
}

TEST_CASE("another node dies on a frozen volume: it is recovered, and the volume stays as it is", "[freeze]") {
  const std::uint64_t seed = fresh_seed();
  for (std::uint64_t round = 0; round < 6; ++round) {
    INFO("CORRAL_SEED=" << seed << ", round " << round);
    MountedCluster cluster(3, seed + round);
    // What it had open and has no name is freed after the thaw, and not before.
    const BlockNo orphan = cluster.must(create(cluster[2], cluster.root(), "orphan", regular()));
    cluster.must(write(cluster[2], orphan, 0, std::string(100'000, 'o')));
    cluster.must(cluster[2].unlink(cluster.root(), "orphan"));
    Workers workers(cluster, true);
    pass(cluster, 300ms);
    bool frozen = false;
    Scope scope(cluster.executor);
    auto freeze = [](Freezer& with, bool& out) -> Task<void> { out = (co_await with.freeze(kPatience)).has_value(); };
    scope.spawn(freeze(freezer(cluster, 0), frozen));
    // In the middle of it, too.
    pass(cluster, round % 2 == 0 ? Duration(2s) : Duration(1ms * round * round));
    workers.kill(2);
    cluster.wait_until_recovered();
    pass(cluster, 1s);
    REQUIRE(frozen);
    const std::uint64_t done = workers.done();
    pass(cluster, 40s);
    CHECK(workers.done() == done);
    check_copy(cluster.disk, true);
    cluster.must(freezer(cluster, 1).thaw());
    pass(cluster, 1s);
    CHECK(workers.done() > done);
    workers.end();
    cluster.unmount_all();
    cluster.check_volume();
  }
}

TEST_CASE("all nodes of a frozen volume die: what they had open is freed by the next", "[freeze]") {
  const std::uint64_t seed = fresh_seed();
  INFO("CORRAL_SEED=" << seed);
  MountedCluster cluster(2, seed);
  const BlockNo orphan = cluster.must(create(cluster[1], cluster.root(), "orphan", regular()));
  cluster.must(cluster[1].unlink(cluster.root(), "orphan"));
  CHECK(cluster.must(cluster[1].get_attributes(orphan)).nlink == 0);
  cluster.must(freezer(cluster, 0).freeze(kPatience));
  check_copy(cluster.disk, true);
  cluster.kill(0);
  cluster.kill(1);
  cluster.nodes.clear();
  cluster.mount(0);
  cluster.unmount_all();
  cluster.check_volume();
}

TEST_CASE("mounting waits until the volume is thawed, unmounting does where there is work left", "[freeze]") {
  const std::uint64_t seed = fresh_seed();
  INFO("CORRAL_SEED=" << seed);
  MountedCluster cluster(3, seed);
  // Before there is an orphan, which a node that looks for free blocks might be about to free.
  cluster.must(write(cluster[2], cluster.must(create(cluster[2], cluster.root(), "file", regular())), 0, "text"));
  const BlockNo orphan = cluster.must(create(cluster[1], cluster.root(), "orphan", regular()));
  cluster.must(cluster[1].unlink(cluster.root(), "orphan"));
  cluster.must(freezer(cluster, 0).freeze(kPatience));
  cluster.unmount(2);  // it has nothing to write
  check_copy(cluster.disk, true);

  bool mounted = false;
  bool unmounted = false;
  Scope scope(cluster.executor);
  auto mount = [](MountedCluster& in, bool& out) -> Task<void> {
    MountOptions options;
    CHECK(co_await in.nodes[2]->start("node-2", in.journals, options, Random(3)));
    out = true;
  };
  auto unmount = [](MountedCluster& in, BlockNo open, bool& out) -> Task<void> {
    in[1].forget(open, 1);
    CHECK(co_await in.nodes[1]->stop());
    out = true;
  };
  cluster.nodes[2] = std::make_unique<MountedNode>(
      MountedNode::World{cluster.executor, cluster.executor, cluster.disk, cluster.network, cluster.ends}, seed,
      SimulatedDeviceOptions::realistic());
  scope.spawn(mount(cluster, mounted));
  scope.spawn(unmount(cluster, orphan, unmounted));
  pass(cluster, 60s);
  CHECK_FALSE(mounted);
  CHECK_FALSE(unmounted);
  check_copy(cluster.disk, true);
  // The end of the node that froze it is the end of that.
  cluster.unmount(0);
  pass(cluster, 20s);
  CHECK(mounted);
  CHECK(unmounted);
  cluster.nodes[1].reset();
  cluster.unmount_all();
  cluster.check_volume();
}

TEST_CASE("a node that works for long makes freezing give up, and nothing is held up", "[freeze]") {
  const std::uint64_t seed = fresh_seed();
  INFO("CORRAL_SEED=" << seed);
  MountedCluster cluster(3, seed);
  Workers workers(cluster, true);
  std::optional<GlockHolder> long_work = cluster.must(cluster.nodes[2]->filesystem->volume().change());
  const auto late = cluster.run(freezer(cluster, 0).freeze(5s));
  REQUIRE_FALSE(late);
  CHECK(late.error().code() == ETIMEDOUT);
  const std::uint64_t done = workers.done();
  pass(cluster, 1s);
  CHECK(workers.done() > done);
  std::stop_source stop;
  stop.request_stop();
  const auto stopped = cluster.run(freezer(cluster, 1).freeze(kPatience, stop.get_token()));
  REQUIRE_FALSE(stopped);
  CHECK(stopped.error().code() == ECANCELED);
  long_work.reset();
  pass(cluster, 1s);
  for (std::uint32_t node = 0; node < 3; ++node)
    CHECK_FALSE(freezer(cluster, node).frozen());
  cluster.must(freezer(cluster, 0).freeze(kPatience));
  check_copy(cluster.disk, true);
  cluster.must(freezer(cluster, 1).thaw());
  workers.end();
  cluster.unmount_all();
  cluster.check_volume();
}

TEST_CASE("a volume of a single node is frozen and thawed", "[freeze]") {
  mkfs::FormatOptions format;
  format.lock_protocol = mkfs::kLockNolock;
  format.journal_mebibytes = 8;
  SimulatedDisk disk(formatted_volume(format, 100));
  World world(disk, 1, SimulatedDeviceOptions::realistic());
  MountOptions options;
  options.quota = QuotaMode::account;
  REQUIRE(world.mount(options, 2));
  Operations& operations = world.filesystem->operations();
  const BlockNo root = world.filesystem->root();
  Freezer& freezer = world.filesystem->freezer();
  const BlockNo file = must(world.run(create(operations, root, "file", regular())));
  must(world.run(write(operations, file, 0, "text")));
  must(world.run(freezer.freeze(kPatience)));
  CHECK(freezer.frozen_here());
  check_copy(disk);
  CHECK(must(world.run(read_all(operations, file))) == "text");
  const auto again = world.run(freezer.freeze(kPatience));
  REQUIRE_FALSE(again);
  CHECK(again.error().code() == EBUSY);
  must(world.run(freezer.thaw()));
  must(world.run(write(operations, file, 0, "more")));
  must(world.run(freezer.freeze(kPatience)));
  REQUIRE(world.run(world.filesystem->unmount()));
  CHECK(test::fsck_corral(disk.contents()) == "");
  CHECK(test::fsck_gfs2(disk.contents()) == "");
}
