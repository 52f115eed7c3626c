// Locks on files of whole nodes, while nodes die: nobody has a lock beside another's, who has one sees what the last
// holder wrote, and nobody waits for ever.
#include <map>

#include "test/support/environment.h"
#include "test/support/mounted_cluster.h"

using namespace corral;
using namespace corral::test;

namespace {

constexpr std::uint32_t kNodes = 4;
constexpr std::uint32_t kProcesses = 3;  ///< on each node

class Process final : public LockWaiter {
 public:
  bool of_process() const override { return true; }
};

FileLock lock_of(std::uint64_t owner, FileLockKind kind, FileLockMode mode) {
  FileLock lock;
  lock.kind = kind;
  lock.mode = mode;
  lock.owner = owner;
  lock.process = static_cast<std::uint32_t>(owner);
  return lock;
}

Task<Result<>> set(MountedCluster& cluster, std::uint32_t node, BlockNo file, FileLock wanted, LockWaiter* waiter) {
  co_return co_await cluster.nodes[node]->node->file_locks().set(file, wanted, waiter);
}

Task<int> sleep(Executor& executor, Duration time) {
  co_await executor.sleep_for(time);
  co_return 0;
}

/// A number in a file that processes of all nodes count up under its lock.
class Counter {
 public:
  Counter(MountedCluster& cluster, BlockNo file, FileLockKind kind) : cluster_(cluster), file_(file), kind_(kind) {}

  /// A process of the node counts until told to stop.
  Task<void> count(std::uint32_t node, std::uint64_t owner, Random random) {
    while (!stopping) {
      Process waiter;
      Scope signals(cluster_.executor);
      if (random.chance(1, 8))
        signals.spawn(interrupt(cluster_.executor, waiter, std::chrono::microseconds(random.between(0, 5000))));
      auto locked = co_await set(cluster_, node, file_, lock_of(owner, kind_, FileLockMode::write), &waiter);
      if (locked)
        co_await add_one(node, owner);
      else if (locked.error().code() != EINTR)
        wrong.push_back("locking: " + locked.error().describe());
      co_await cluster_.executor.sleep_for(std::chrono::microseconds(random.between(0, 20'000)));
    }
  }
  /// The node has died: what it held is free.
  void died(std::uint32_t node) {
    if (holder_ && holder_->first == node) holder_.reset();
  }

  std::vector<std::string> wrong;
  std::map<std::uint32_t, int> times;  ///< by node
  bool stopping = false;

 private:
  static Task<void> interrupt(Executor& executor, Process& waiter, Duration delay) {
    co_await executor.sleep_for(delay);
    waiter.interrupt();
  }

  Task<void> add_one(std::uint32_t node, std::uint64_t owner) {
    if (holder_) wrong.push_back(fmt::format("{} of node {} has a lock beside {}", owner, node, holder_->second));
    holder_ = {node, owner};
    auto text = co_await read_all(cluster_[node], file_);
    if (!text) {
      wrong.push_back("reading: " + text.error().describe());
      co_return;
    }
    const int number = text->empty() ? 0 : std::stoi(*text);
    // Whoever died while it counted has counted or not.
    if (number != number_ && !(uncertain_ && number == number_ + 1))
      wrong.push_back(fmt::format("node {} reads {} after {}", node, number, number_));
    number_ = number;
    uncertain_ = true;
    auto written = co_await write(cluster_[node], file_, 0, std::to_string(number + 1));
    auto synced = co_await cluster_[node].fsync(file_, true);
    if (!written || !synced) wrong.push_back("writing failed");
    number_ = number + 1;
    uncertain_ = false;
    ++times[node];
    holder_.reset();
    auto unlocked = co_await set(cluster_, node, file_, lock_of(owner, kind_, FileLockMode::unlocked), nullptr);
    if (!unlocked) wrong.push_back("unlocking: " + unlocked.error().describe());
  }

  MountedCluster& cluster_;
  BlockNo file_;
  FileLockKind kind_;
  std::optional<std::pair<std::uint32_t, std::uint64_t>> holder_;
  int number_ = 0;
  bool uncertain_ = false;
};

Task<int> joined(Scope& scope) {
  co_await scope.join();
  co_return 0;
}

void count_while_nodes_die(std::uint64_t seed, FileLockKind kind, std::vector<std::uint32_t> victims) {
  INFO("CORRAL_SEED=" << seed);
  MountedCluster cluster(kNodes, seed);
  const BlockNo file = cluster.must(create(cluster[0], cluster.root(), "counter", regular()));
  for (std::uint32_t node = 1; node < kNodes; ++node)
    cluster.must(find(cluster[node], cluster.root(), "counter"));
  Counter counter(cluster, file, kind);
  std::vector<std::unique_ptr<Scope>> work;
  for (std::uint32_t node = 0; node < kNodes; ++node) {
    work.push_back(std::make_unique<Scope>(cluster.executor));
    for (std::uint32_t process = 0; process < kProcesses; ++process)
      work.back()->spawn(counter.count(node, 100 * node + process, cluster.random.split()));
  }
  for (std::uint32_t victim : victims) {
    cluster.run(sleep(cluster.executor, std::chrono::milliseconds(cluster.random.between(500, 3000))));
    work[victim].reset();
    cluster.kill(victim);
    counter.died(victim);
  }
  cluster.wait_until_recovered();
  auto before = counter.times;
  cluster.run(sleep(cluster.executor, 3s));
  counter.stopping = true;
  for (std::uint32_t node = 0; node < kNodes; ++node) {
    if (cluster.nodes[node] == nullptr) continue;
    cluster.run(joined(*work[node]));
    // Nobody is left out after the recovery.
    CHECK(counter.times[node] > before[node]);
  }
  for (const std::string& line : counter.wrong)
    UNSCOPED_INFO(line);
  CHECK(counter.wrong.empty());
  for (std::uint32_t node = 0; node < kNodes; ++node) {
    if (cluster.nodes[node] != nullptr) CHECK(cluster.nodes[node]->node->lock_manager().faults() == 0);
  }
  cluster.unmount_all();
  cluster.check_volume();
}

}  // namespace

TEST_CASE("processes of all nodes count under a lock, and nodes die meanwhile", "[coherence]") {
  const std::uint64_t seed = fresh_seed();
  count_while_nodes_die(seed, FileLockKind::record, {});
  // The first node masters the file's lock.
  count_while_nodes_die(seed + 1, FileLockKind::record, {0});
  count_while_nodes_die(seed + 2, FileLockKind::flock, {2, 0});
  count_while_nodes_die(seed + 3, FileLockKind::record, {3, 1});
}

TEST_CASE("a node that may be dead neither grants nor is granted, and others get its locks when it is fenced",
          "[coherence]") {
  const std::uint64_t seed = fresh_seed();
  INFO("CORRAL_SEED=" << seed);
  MountedCluster cluster(3, seed);
  const BlockNo file = cluster.must(create(cluster[1], cluster.root(), "file", regular()));
  const FileLock wanted = lock_of(1, FileLockKind::record, FileLockMode::write);
  cluster.must(set(cluster, 1, file, wanted, nullptr));
  SimulatedDevice& device = cluster.nodes[1]->device;
  const std::uint64_t fault = device.add_fault({.effect = SimulatedFault::Effect::stuck});
  cluster.run(sleep(cluster.executor, 4s));
  // Mastered there: it could answer without asking anybody.
  std::optional<Result<>> again;
  std::optional<Result<>> taken;
  auto ask = [](MountedCluster& in, std::uint32_t node, BlockNo inode, FileLock lock, LockWaiter* waiter,
                std::optional<Result<>>& out) -> Task<void> { out = co_await set(in, node, inode, lock, waiter); };
  Process waiter;
  Scope scope(cluster.executor);
  scope.spawn(ask(cluster, 1, file, wanted, nullptr, again));
  scope.spawn(ask(cluster, 0, file, wanted, &waiter, taken));
  const Time deadline = cluster.clock.now() + 60s;
  cluster.clock.run_until(cluster.executor, [&] { return taken || again || cluster.clock.now() > deadline; });
  // Recovered before: its journal is replayed, so nothing of it can come any more.
  REQUIRE((taken && taken->has_value()));
  CHECK(cluster.nodes[0]->node->unrecovered().empty());
  CHECK_FALSE(again.has_value());
  device.remove_fault(fault);
  cluster.run(sleep(cluster.executor, 5s));
  REQUIRE(again.has_value());
  CHECK((!*again && again->error().code() == EIO));
  CHECK(cluster.run(set(cluster, 1, file, wanted, nullptr)).error().code() == EIO);
  // In its next life it is one of many.
  cluster.kill(1);
  cluster.mount(1);
  CHECK(cluster.run(set(cluster, 1, file, wanted, nullptr)).error().code() == EAGAIN);
  cluster.unmount_all();
  cluster.check_volume();
}

TEST_CASE("who waits for a lock when its node ends gets EIO", "[coherence]") {
  const std::uint64_t seed = fresh_seed();
  INFO("CORRAL_SEED=" << seed);
  MountedCluster cluster(2, seed);
  const BlockNo file = cluster.must(create(cluster[0], cluster.root(), "file", regular()));
  const FileLock wanted = lock_of(1, FileLockKind::flock, FileLockMode::write);
  cluster.must(set(cluster, 0, file, wanted, nullptr));
  std::optional<Result<>> waited;
  auto ask = [](MountedCluster& in, BlockNo inode, FileLock lock, LockWaiter& waiter,
                std::optional<Result<>>& out) -> Task<void> { out = co_await set(in, 1, inode, lock, &waiter); };
  Process waiter;
  Scope scope(cluster.executor);
  scope.spawn(ask(cluster, file, wanted, waiter, waited));
  cluster.run(sleep(cluster.executor, 1s));
  CHECK_FALSE(waited.has_value());
  cluster.nodes[1]->filesystem->volume().withdraw(Error(EIO, "the test says so"));
  cluster.run(sleep(cluster.executor, 1s));
  REQUIRE(waited.has_value());
  CHECK((!*waited && waited->error().code() == EIO));
  cluster.kill(1);
  cluster.wait_until_recovered();
  cluster.unmount_all();
  cluster.check_volume();
}
