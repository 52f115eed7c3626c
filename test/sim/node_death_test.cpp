// Nodes that die, and nodes that lose touch with the disk: what was synced stays, the others go on, the volume is
// sound.

#include "test/support/environment.h"
#include "test/support/mounted_cluster.h"

using namespace corral;
using namespace corral::test;

namespace {

/// Files that a node has synced, with what is in them.
using Synced = std::map<std::string, std::string>;

/// Makes files in a directory that all share, every third of them synced, until the node's end.
Task<void> write_files(MountedCluster& cluster, std::uint32_t node, BlockNo top, int count, Synced& synced,
                       std::vector<std::string>& wrong) {
  Operations& operations = cluster[node];
  Random random(cluster.random.next());
  for (int i = 0; i < count; ++i) {
    const std::string name = fmt::format("n{}-{}", node, i);
    const std::string text(random.between(1, 40'000), static_cast<char>('a' + i % 26));
    auto file = co_await create(operations, top, name, regular());
    Result<> done = file ? Result<>{} : Result<>(std::unexpected(file.error()));
    if (done) {
      auto written = co_await write(operations, *file, 0, text);
      if (!written) done = std::unexpected(written.error());
    }
    if (done && i % 3 == 0) {
      done = co_await operations.fsync(*file, false);
      if (done) synced[name] = text;
    }
    if (!done) {
      wrong.push_back(fmt::format("{}: {}", name, done.error().describe()));
      co_return;
    }
    operations.forget(*file, 1);
  }
}

Task<int> sleep(Executor& executor, Duration time) {
  co_await executor.sleep_for(time);
  co_return 0;
}
Task<int> joined(Scope& scope) {
  co_await scope.join();
  co_return 0;
}

void check_synced(MountedCluster& cluster, std::uint32_t reader, const Synced& synced) {
  const BlockNo top = cluster.must(find(cluster[reader], cluster.root(), "shared"));
  for (const auto& [name, text] : synced) {
    INFO(name);
    const BlockNo file = cluster.must(find(cluster[reader], top, name));
    CHECK((cluster.must(read_all(cluster[reader], file)) == text));
    cluster[reader].forget(file, 1);
  }
}

/// The nodes in `victims` die one after the other, each at a random moment, while all work; then they come back.
void deaths(std::uint64_t seed, std::vector<std::uint32_t> victims) {
  INFO("CORRAL_SEED=" << seed);
  constexpr std::uint32_t kNodes = 4;
  MountedCluster cluster(kNodes, seed);
  const BlockNo top = cluster.must(create(cluster[0], cluster.root(), "shared", directory()));
  for (std::uint32_t node = 1; node < kNodes; ++node)
    cluster.must(find(cluster[node], cluster.root(), "shared"));
  std::vector<Synced> synced(kNodes);
  std::vector<std::string> wrong;
  {
    std::vector<std::unique_ptr<Scope>> work;
    for (std::uint32_t node = 0; node < kNodes; ++node) {
      work.push_back(std::make_unique<Scope>(cluster.executor));
      work.back()->spawn(write_files(cluster, node, top, 60, synced[node], wrong));
    }
    for (std::uint32_t victim : victims) {
      // The second one may die while the first is being recovered.
      cluster.run(sleep(cluster.executor, std::chrono::milliseconds(cluster.random.between(10, 9000))));
      work[victim].reset();
      cluster.kill(victim);
    }
    for (auto& scope : work)
      if (scope) cluster.run(joined(*scope));
  }
  for (const std::string& line : wrong)
    UNSCOPED_INFO(line);
  CHECK(wrong.empty());
  cluster.wait_until_recovered();
  for (std::uint32_t victim : victims)
    cluster.mount(victim);
  for (const Synced& files : synced) {
    check_synced(cluster, victims.front(), files);
    check_synced(cluster, (victims.front() + 1) % kNodes, files);
  }
  cluster.unmount_all();
  cluster.check_volume();
}

}  // namespace

TEST_CASE("a node dies, whichever it is, and comes back", "[coherence]") {
  const std::uint64_t seed = fresh_seed();
  for (std::uint32_t victim = 0; victim < 4; ++victim)
    deaths(seed + victim, {victim});
}

TEST_CASE("two nodes die, the leader first", "[coherence]") {
  const std::uint64_t seed = fresh_seed();
  deaths(seed, {0, 1});
  deaths(seed + 1, {0, 3});
  deaths(seed + 2, {2, 0});
}

TEST_CASE("all nodes die at once, and what was synced is there for the next", "[coherence]") {
  const std::uint64_t seed = fresh_seed();
  INFO("CORRAL_SEED=" << seed);
  MountedCluster cluster(3, seed);
  const BlockNo top = cluster.must(create(cluster[0], cluster.root(), "shared", directory()));
  for (std::uint32_t node = 1; node < 3; ++node)
    cluster.must(find(cluster[node], cluster.root(), "shared"));
  std::vector<Synced> synced(3);
  std::vector<std::string> wrong;
  {
    Scope work(cluster.executor);
    for (std::uint32_t node = 0; node < 3; ++node)
      work.spawn(write_files(cluster, node, top, 1000, synced[node], wrong));
    cluster.run(sleep(cluster.executor, std::chrono::milliseconds(cluster.random.between(50, 2000))));
  }
  for (std::uint32_t node = 0; node < 3; ++node)
    cluster.kill(node);
  for (std::uint32_t node = 0; node < 3; ++node)
    cluster.mount(node);
  for (std::uint32_t node = 0; node < 3; ++node)
    check_synced(cluster, node, synced[(node + 1) % 3]);
  cluster.unmount_all();
  cluster.check_volume();
}

namespace {

/// Each node has counts of its own that are not in the file statfs, and `last` has just changed that file: it stands in
/// the journal of `last` and is not in its place yet.
void count_on_each(MountedCluster& cluster, std::uint32_t last) {
  for (std::uint32_t node = 0; node < cluster.nodes.size(); ++node) {
    for (int i = 0; i < 5; ++i) {
      const BlockNo file =
          cluster.must(create(cluster[node], cluster.root(), fmt::format("n{}-{}", node, i), regular()));
      cluster.must(write(cluster[node], file, 0, std::string(100'000, 'x')));
    }
    cluster.must(cluster[node].sync());
  }
  Filesystem& filesystem = *cluster.nodes[last]->filesystem;
  cluster.must(filesystem.allocator().sync_statfs());
  cluster.must(filesystem.journal()->flush());
}

}  // namespace

TEST_CASE("the totals are right after all nodes have died, whoever changed them last", "[coherence]") {
  const std::uint64_t seed = fresh_seed();
  INFO("CORRAL_SEED=" << seed);
  for (std::uint32_t last = 0; last < 3; ++last) {
    INFO("changed last by node " << last);
    MountedCluster cluster(3, seed + last);
    count_on_each(cluster, last);
    for (std::uint32_t node = 0; node < 3; ++node)
      cluster.kill(node);
    cluster.mount(1);
    cluster.unmount_all();
    cluster.check_volume();
  }
}

TEST_CASE("the totals are right after two of three nodes have died, whoever changed them last", "[coherence]") {
  const std::uint64_t seed = fresh_seed();
  INFO("CORRAL_SEED=" << seed);
  for (std::uint32_t last = 0; last < 2; ++last) {
    INFO("changed last by node " << last);
    MountedCluster cluster(3, seed + last);
    count_on_each(cluster, last);
    cluster.kill(0);
    cluster.kill(1);
    cluster.wait_until_recovered();
    cluster.unmount_all();
    cluster.check_volume();
  }
}

TEST_CASE("who was to look for inodes without a name dies as well, and the next one does", "[coherence]") {
  const std::uint64_t seed = fresh_seed();
  INFO("CORRAL_SEED=" << seed);
  const auto left_open = [](MountedCluster& cluster) {
    const BlockNo file = cluster.must(create(cluster[0], cluster.root(), "file", regular()));
    cluster.must(write(cluster[0], file, 0, std::string(100'000, 'x')));
    cluster.must(cluster[0].open(file, O_RDWR));
    cluster.must(cluster[0].unlink(cluster.root(), "file"));
    cluster.must(cluster[0].sync());
  };
  SECTION("all die at once, and the first one that mounts as well") {
    MountedCluster cluster(2, seed);
    left_open(cluster);
    cluster.kill(0);
    cluster.kill(1);
    // Its mount has replayed the journals, and nothing else was written since.
    cluster.mount(0);
    cluster.kill(0);
    cluster.mount(1);
    cluster.unmount_all();
    cluster.check_volume();
  }
  SECTION("one dies, and the one that has replayed its journal") {
    MountedCluster cluster(2, seed);
    left_open(cluster);
    cluster.must(cluster[1].sync());
    cluster.kill(0);
    cluster.wait_until_recovered();
    cluster.kill(1);
    cluster.mount(1);
    cluster.unmount_all();
    cluster.check_volume();
  }
  SECTION("one dies, and the one that replays its journal has unmounted meanwhile and only leaves") {
    MountedCluster cluster(2, seed);
    left_open(cluster);
    cluster.must(cluster[1].sync());
    cluster.kill(0);
    cluster.unmount(1);
    cluster.mount(1);
    cluster.unmount_all();
    cluster.check_volume();
  }
}

TEST_CASE("what a fenced node had sent arrives after all others have unmounted, and changes nothing", "[coherence]") {
  const std::uint64_t seed = fresh_seed();
  INFO("CORRAL_SEED=" << seed);
  MountedCluster cluster(3, seed);
  const BlockNo file = cluster.must(create(cluster[2], cluster.root(), "file", regular()));
  cluster.must(write(cluster[2], file, 0, std::string(100'000, 'x')));
  SimulatedDevice& device = cluster.nodes[2]->device;
  const std::uint64_t fault = device.add_fault({.effect = SimulatedFault::Effect::stuck});
  const auto recovered = [&cluster] {
    return std::ranges::all_of(cluster.nodes, [&](const auto& node) {
      return node == cluster.nodes[2] || (node->node->unrecovered().empty() && node->node->lock_manager().running() &&
                                          node->node->lock_manager().view().members.size() == 2);
    });
  };
  const Time deadline = cluster.clock.now() + 600s;
  cluster.clock.run_until(cluster.executor, [&] { return recovered() || cluster.clock.now() > deadline; });
  REQUIRE(recovered());
  cluster.unmount(0);
  cluster.unmount(1);
  const DiskImage unmounted = cluster.disk.contents();
  device.remove_fault(fault);
  cluster.run(sleep(cluster.executor, 60s));
  CHECK((cluster.disk.contents() == unmounted));
  // It comes back: its old life has ended, and so may the reservation.
  cluster.kill(2);
  cluster.mount(2);
  cluster.unmount(2);
  CHECK(cluster.disk.reservations().reservation().type == ReservationType::none);
  CHECK(cluster.disk.reservations().keys().keys.empty());
  cluster.check_volume();
}

TEST_CASE("a node that does not reach the disk answers nothing from memory, and is fenced", "[coherence]") {
  const std::uint64_t seed = fresh_seed();
  INFO("CORRAL_SEED=" << seed);
  MountedCluster cluster(3, seed);
  const BlockNo file = cluster.must(create(cluster[1], cluster.root(), "file", regular()));
  cluster.must(write(cluster[1], file, 0, "old"));
  cluster.must(find(cluster[0], cluster.root(), "file"));
  // Everything is in node 1's memory.
  CHECK(cluster.must(read_all(cluster[1], file)) == "old");
  SimulatedDevice& device = cluster.nodes[1]->device;
  const std::uint64_t fault = device.add_fault({.effect = SimulatedFault::Effect::stuck});
  cluster.run(sleep(cluster.executor, 4s));
  std::optional<Result<Attributes>> answer;
  Scope scope(cluster.executor);
  auto ask = [](MountedCluster& in, BlockNo inode, std::optional<Result<Attributes>>& out) -> Task<void> {
    out = co_await in[1].get_attributes(inode);
  };
  scope.spawn(ask(cluster, file, answer));
  // The others wait for its lock until it is fenced.
  cluster.must(write(cluster[0], file, 0, "newer"));
  CHECK_FALSE(answer.has_value());
  device.remove_fault(fault);
  cluster.run(sleep(cluster.executor, 5s));
  REQUIRE(answer.has_value());
  CHECK((!*answer && answer->error().code() == EIO));
  CHECK(cluster.run(cluster[1].get_attributes(file)).error().code() == EIO);
  CHECK(cluster.must(read_all(cluster[2], cluster.must(find(cluster[2], cluster.root(), "file")))) == "newer");
  cluster.kill(1);
  cluster.mount(1);
  CHECK(cluster.must(read_all(cluster[1], cluster.must(find(cluster[1], cluster.root(), "file")))) == "newer");
  cluster.unmount_all();
  cluster.check_volume();
}

TEST_CASE("what a lost or a leaving node has under way on the disk keeps its memory", "[coherence]") {
  const std::uint64_t seed = fresh_seed();
  INFO("CORRAL_SEED=" << seed);
  MountedCluster cluster(3, seed);
  for (int round = 0; round < 8; ++round) {
    // Whom the others do not hear is fenced while its disk goes on as ever.
    const NodeId victim = cluster.nodes[1]->node->self().node;
    for (std::uint32_t other : {0u, 2u}) {
      cluster.network.cut(victim, cluster.nodes[other]->node->self().node);
      cluster.network.cut(cluster.nodes[other]->node->self().node, victim);
    }
    cluster.wait_until_lost(1);
    cluster.run(sleep(cluster.executor, 1s));
    CHECK(cluster.nodes[1]->device.counters().abandoned == 0);
    cluster.network.heal_all();
    cluster.rejoin(1);
    cluster.must(cluster.nodes[2]->stop());
    cluster.run(sleep(cluster.executor, 1s));
    CHECK(cluster.nodes[2]->device.counters().abandoned == 0);
    cluster.kill(2);
    cluster.mount(2);
  }
  cluster.unmount_all();
  cluster.check_volume();
}

namespace {

/// What the kernel of a node knows: a file's number and generation.
struct KnownFile {
  BlockNo inode;
  std::uint64_t generation;
};

Task<Result<KnownFile>> make_known(Operations& operations, BlockNo top, std::string name) {
  CO_TRY(Entry entry, co_await operations.create(top, std::move(name), regular(), kRoot));
  co_return KnownFile{entry.attributes.inode, entry.attributes.generation};
}

void fenced_and_back(std::uint64_t seed, std::uint32_t victim) {
  INFO("CORRAL_SEED=" << seed << " victim " << victim);
  constexpr std::uint32_t kNodes = 3;
  constexpr int kFiles = 30;
  const std::uint32_t other = (victim + 1) % kNodes;
  MountedCluster cluster(kNodes, seed);
  const BlockNo top = cluster.must(create(cluster[victim], cluster.root(), "shared", directory()));
  for (std::uint32_t node = 0; node < kNodes; ++node)
    if (node != victim) cluster.must(find(cluster[node], cluster.root(), "shared"));
  std::vector<KnownFile> known;
  for (int i = 0; i < kFiles; ++i)
    known.push_back(cluster.must(make_known(cluster[victim], top, fmt::format("known{}", i))));
  cluster.must(cluster[victim].sync());

  std::vector<Synced> synced(kNodes);
  std::vector<std::string> wrong;
  Scope work(cluster.executor);
  for (std::uint32_t node = 0; node < kNodes; ++node)
    if (node != victim) work.spawn(write_files(cluster, node, top, 60, synced[node], wrong));
  SimulatedDevice& device = cluster.nodes[victim]->device;
  const std::uint64_t fault = device.add_fault({.effect = SimulatedFault::Effect::stuck});
  // Waits for the victim's locks, that is, for its end. Then the blocks of those that are removed are used anew.
  for (int i = 0; i < kFiles; ++i) {
    const std::string name = fmt::format("known{}", i);
    if (i % 3 == 0) cluster.must(cluster[other].unlink(top, name));
    if (i % 3 == 1) cluster.must(cluster[other].rename(top, name, top, fmt::format("moved{}", i), RenameMode::replace));
  }
  for (int i = 0; i < kFiles; ++i)
    cluster.must(create(cluster[other], top, fmt::format("anew{}", i), i % 2 == 0 ? regular() : directory()));
  device.remove_fault(fault);
  cluster.wait_until_lost(victim);
  CHECK(cluster.run(cluster[victim].get_attributes(known[1].inode)).error().code() == EIO);
  cluster.rejoin(victim);
  for (int i = 0; i < kFiles; ++i) {
    const KnownFile& file = known[static_cast<std::size_t>(i)];
    INFO("known" << i);
    auto found = cluster.run(cluster[victim].get_attributes(file.inode));
    if (i % 3 == 0)
      CHECK((!found && found.error().code() == ESTALE));
    else
      CHECK((found && found->generation == file.generation && found->nlink == 1));
    if (i % 3 == 2) cluster.must(write(cluster[victim], file.inode, 0, "again"));
  }
  // The names as they are now, at numbers that the kernel has had for something else.
  for (int i = 0; i < kFiles; ++i)
    cluster.must(find(cluster[victim], top, fmt::format("anew{}", i)));
  for (const KnownFile& file : known)
    cluster[victim].forget(file.inode, 1);
  cluster.run(joined(work));
  for (const std::string& line : wrong)
    UNSCOPED_INFO(line);
  CHECK(wrong.empty());
  for (const Synced& files : synced)
    check_synced(cluster, victim, files);
  cluster.unmount_all();
  cluster.check_volume();
}

}  // namespace

TEST_CASE("a fenced node comes back as a new incarnation, and finds again what its kernel knows", "[coherence]") {
  const std::uint64_t seed = fresh_seed();
  for (std::uint32_t victim = 0; victim < 3; ++victim)
    fenced_and_back(seed + victim, victim);
}
