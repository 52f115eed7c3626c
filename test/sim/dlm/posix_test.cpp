// fcntl and flock across nodes: conflicts, waiting, deadlock, signals, deaths, and random operations against a model.
#include <cstdlib>

#include "dlm/posix_locks.h"
#include "test/sim/dlm/support.h"
#include "test/support/environment.h"

using namespace corral;
using namespace corral::dlm;
using namespace corral::dlm::test;
using namespace std::chrono_literals;

namespace {

constexpr LockspaceId kPlocks{2};
constexpr LockspaceId kFlocks{3};

/// A node's POSIX locks; one owner per process.
struct Processes {
  Processes(Cluster& of_cluster, std::uint32_t number)
      : cluster(of_cluster),
        node(of_cluster.node(number)),
        locks(node.manager, kPlocks),
        flocks(node.manager, kFlocks) {}

  HeldRange range(std::uint32_t process, RangeMode mode, Range bytes,
                  RangeOwnerKind kind = RangeOwnerKind::record) const {
    return {{node.member, kind, 1000u + process}, process, mode, bytes};
  }
  int set(std::uint64_t inode, HeldRange wanted) {
    auto result = run(locks.set(inode, wanted, nullptr));
    return result ? 0 : result.error().code();
  }
  std::optional<HeldRange> test(std::uint64_t inode, HeldRange wanted) {
    auto result = run(locks.test(inode, wanted));
    REQUIRE(result.has_value());
    return *result;
  }
  template <class T>
  T run(Task<T> task) {
    std::optional<T> value;
    Scope scope(cluster.executor);
    auto runner = [](Task<T> inner, std::optional<T>& out) -> Task<void> { out.emplace(co_await inner); };
    scope.spawn(runner(std::move(task), value));
    REQUIRE(cluster.run_until([&] { return value.has_value(); }));
    return std::move(*value);
  }

  Cluster& cluster;
  Node& node;
  PosixLocks locks;
  PosixLocks flocks;
};

struct Wait final : RangeWait {
  Wait(LockManager& manager, bool is_process) : RangeWait(manager), process(is_process) {}
  bool of_process() const override { return process; }
  bool process;
};

/// One F_SETLKW that waits.
struct Waiting {
  Waiting(Processes& processes, PosixLocks& locks, std::uint64_t inode, HeldRange wanted, bool process = true)
      : wait(processes.node.manager, process), scope(processes.cluster.executor) {
    scope.spawn(run(locks, inode, wanted, wait, ended));
  }
  static Task<void> run(PosixLocks& locks, std::uint64_t inode, HeldRange wanted, RangeWait& wait, Ended& ended) {
    auto result = co_await locks.set(inode, wanted, &wait);
    ended = result ? 0 : result.error().code();
  }
  Ended ended;
  Wait wait;
  Scope scope;
};

}  // namespace

TEST_CASE("the only user of a file needs no message for its locks after the first") {
  Cluster cluster(1);
  cluster.start_all(3);
  Processes one(cluster, 1);
  REQUIRE(one.set(7, one.range(1, RangeMode::write, {0, 9})) == 0);
  cluster.run_for(10ms);
  const auto before = cluster.messages();
  for (std::uint64_t i = 0; i < 100; ++i) {
    REQUIRE(one.set(7, one.range(1, RangeMode::write, {10 * i, 10 * i + 5})) == 0);
    REQUIRE(one.set(7, one.range(2, RangeMode::read, {10 * i, 10 * i + 5})) == EAGAIN);
  }
  REQUIRE(one.set(7, one.range(1, RangeMode::unlocked, kWholeFile)) == 0);
  cluster.run_for(10ms);
  REQUIRE(one.set(7, one.range(2, RangeMode::write, kWholeFile)) == 0);
  CHECK(cluster.messages() == before);
  // What is held keeps the file's pin; without, it goes after a while.
  cluster.run_for(3 * PosixLocks::kPinKept);
  CHECK(one.locks.pins() == 1);
  REQUIRE(one.set(7, one.range(2, RangeMode::unlocked, kWholeFile)) == 0);
  cluster.run_for(3 * PosixLocks::kPinKept);
  CHECK(one.locks.pins() == 0);
  CHECK(cluster.faults() == 0);
}

TEST_CASE("a file's locks are mastered by who uses it alone, also after others") {
  Cluster cluster(1);
  cluster.start_all(3);
  Processes one(cluster, 1);
  Processes two(cluster, 2);
  const auto lock_and_unlock = [&](Processes& node, int times) {
    for (int i = 0; i < times; ++i) {
      REQUIRE(node.set(7, node.range(1, RangeMode::write, {0, 9})) == 0);
      REQUIRE(node.set(7, node.range(1, RangeMode::unlocked, kWholeFile)) == 0);
    }
    cluster.run_for(10ms);
  };
  lock_and_unlock(one, 1);
  SECTION("after a while") {
    cluster.run_for(3 * PosixLocks::kPinKept);
    lock_and_unlock(two, 1);
  }
  SECTION("while it never rests") {
    const auto enough = static_cast<int>(PosixLocks::kRemoteOperations);
    for (int i = 0; i < 6; ++i) {
      lock_and_unlock(two, enough);
      cluster.run_for(PosixLocks::kPinKept / 2);
    }
    lock_and_unlock(two, enough);
  }
  const auto before = cluster.messages();
  lock_and_unlock(two, 100);
  CHECK(cluster.messages() == before);
  CHECK(cluster.faults() == 0);
}

TEST_CASE("F_GETLK names the node and the process; F_SETLKW waits its turn; a signal ends it") {
  Cluster cluster(2);
  cluster.start_all(3);
  Processes one(cluster, 0);
  Processes two(cluster, 1);
  Processes three(cluster, 2);
  REQUIRE(one.set(5, one.range(11, RangeMode::write, {100, 199})) == 0);
  REQUIRE(one.set(5, one.range(12, RangeMode::read, {300, 399})) == 0);
  CHECK(two.test(5, two.range(21, RangeMode::read, kWholeFile)) == one.range(11, RangeMode::write, {100, 199}));
  CHECK(two.test(5, two.range(21, RangeMode::write, {200, kRangeEnd})) == one.range(12, RangeMode::read, {300, 399}));
  CHECK(!two.test(5, two.range(21, RangeMode::read, {200, kRangeEnd})));
  CHECK(two.set(5, two.range(21, RangeMode::read, {150, 160})) == EAGAIN);
  Waiting reader(two, two.locks, 5, two.range(21, RangeMode::read, {150, 160}));
  Waiting writer(three, three.locks, 5, three.range(31, RangeMode::write, {180, 350}));
  cluster.run_for(10ms);
  CHECK((!reader.ended && !writer.ended));
  CHECK(cluster.node(0).manager.dump().text().find("process 31 owner 407 waiting") != std::string::npos);
  writer.wait.cancel();
  cluster.run_for(10ms);
  CHECK(writer.ended == EINTR);
  REQUIRE(one.set(5, one.range(11, RangeMode::unlocked, {150, 160})) == 0);
  cluster.run_for(10ms);
  CHECK(reader.ended == 0);
  for (Processes* node : {&one, &two}) {
    for (std::uint32_t process : {11u, 12u, 21u})
      REQUIRE(node->set(5, node->range(process, RangeMode::unlocked, kWholeFile)) == 0);
  }
  CHECK(!three.test(5, three.range(31, RangeMode::write, kWholeFile)));
  CHECK(cluster.faults() == 0);
}

TEST_CASE("processes of a node that wait for each other, over files mastered elsewhere, get EDEADLK") {
  Cluster cluster(3);
  cluster.start_all(2);
  Processes away(cluster, 1);
  Processes here(cluster, 0);
  // The other node masters both files.
  for (std::uint64_t inode : {1u, 2u, 3u})
    REQUIRE(away.set(inode, away.range(9, RangeMode::read, {900, 909})) == 0);
  for (std::uint32_t process : {1u, 2u, 3u})
    REQUIRE(here.set(process, here.range(process, RangeMode::write, {0, 9})) == 0);
  Waiting first(here, here.locks, 2, here.range(1, RangeMode::write, {5, 5}));
  Waiting second(here, here.locks, 3, here.range(2, RangeMode::write, {5, 5}));
  cluster.run_for(10ms);
  CHECK((!first.ended && !second.ended));
  Waiting third(here, here.locks, 1, here.range(3, RangeMode::read, {5, 5}));
  cluster.run_for(10ms);
  CHECK(third.ended == EDEADLK);
  REQUIRE(here.set(3, here.range(3, RangeMode::unlocked, kWholeFile)) == 0);
  cluster.run_for(10ms);
  CHECK(second.ended == 0);
  REQUIRE(here.set(2, here.range(2, RangeMode::unlocked, kWholeFile)) == 0);
  cluster.run_for(10ms);
  CHECK(first.ended == 0);
}

TEST_CASE("an open file may wait for another that waits for it, since others can unlock either") {
  Cluster cluster(3);
  cluster.start_all(2);
  Processes here(cluster, 0);
  const bool first_is_process = GENERATE(true, false);
  REQUIRE(here.set(1, here.range(1, RangeMode::write, {0, 9})) == 0);
  REQUIRE(here.set(2, here.range(2, RangeMode::write, {0, 9})) == 0);
  Waiting first(here, here.locks, 2, here.range(1, RangeMode::write, {5, 5}), first_is_process);
  Waiting second(here, here.locks, 1, here.range(2, RangeMode::write, {5, 5}), !first_is_process);
  cluster.run_for(10ms);
  CHECK((!first.ended && !second.ended));
  REQUIRE(here.set(2, here.range(2, RangeMode::unlocked, kWholeFile)) == 0);
  cluster.run_for(10ms);
  CHECK(first.ended == 0);
  second.wait.cancel();
  cluster.run_for(10ms);
  CHECK(second.ended == EINTR);
}

TEST_CASE("a flock that is taken again in the same mode is kept") {
  Cluster cluster(4);
  cluster.start_all(2);
  Processes one(cluster, 0);
  Processes two(cluster, 1);
  const auto flock = [](Processes& node, RangeMode mode) {
    auto result = node.run(node.flocks.set(4, node.range(1, mode, kWholeFile, RangeOwnerKind::flock), nullptr));
    return result ? 0 : result.error().code();
  };
  CHECK(flock(one, RangeMode::read) == 0);
  Waiting waiting(two, two.flocks, 4, two.range(2, RangeMode::write, kWholeFile, RangeOwnerKind::flock));
  cluster.run_for(10ms);
  CHECK(flock(one, RangeMode::read) == 0);
  cluster.run_for(10ms);
  CHECK(!waiting.ended);
  CHECK(flock(one, RangeMode::unlocked) == 0);
  cluster.run_for(10ms);
  CHECK(waiting.ended == 0);
}

TEST_CASE("flock: shared and exclusive between nodes, converting loses the old lock first") {
  Cluster cluster(4);
  cluster.start_all(2);
  Processes one(cluster, 0);
  Processes two(cluster, 1);
  auto flock = [](Processes& node, std::uint32_t process, RangeMode mode) {
    auto result = node.run(node.flocks.set(4, node.range(process, mode, kWholeFile, RangeOwnerKind::flock), nullptr));
    return result ? 0 : result.error().code();
  };
  CHECK(flock(one, 1, RangeMode::read) == 0);
  CHECK(flock(two, 2, RangeMode::read) == 0);
  // fcntl locks do not see it.
  CHECK(one.set(4, one.range(3, RangeMode::write, kWholeFile)) == 0);
  CHECK(flock(two, 2, RangeMode::write) == EAGAIN);
  CHECK(flock(one, 1, RangeMode::write) == 0);
  Waiting waiting(two, two.flocks, 4, two.range(2, RangeMode::read, kWholeFile, RangeOwnerKind::flock));
  cluster.run_for(10ms);
  CHECK(!waiting.ended);
  CHECK(flock(one, 1, RangeMode::unlocked) == 0);
  cluster.run_for(10ms);
  CHECK(waiting.ended == 0);
}

TEST_CASE("dead nodes' locks vanish, the others' survive their master, waiters go on waiting") {
  const std::uint32_t dying = GENERATE(0u, 1u);
  Cluster cluster(5);
  cluster.start_all(3);
  std::optional<Processes> nodes[3];
  for (std::uint32_t i = 0; i < 3; ++i)
    nodes[i].emplace(cluster, i);
  // Node 0 masters the file.
  for (std::uint32_t i = 0; i < 3; ++i)
    REQUIRE(nodes[i]->set(8, nodes[i]->range(i, RangeMode::write, {100 * i, 100 * i + 99})) == 0);
  Waiting for_dead(*nodes[2], nodes[2]->locks, 8, nodes[2]->range(50, RangeMode::write, {100 * dying, 100 * dying}));
  const std::uint32_t other = 1 - dying;
  Waiting for_living(*nodes[2], nodes[2]->locks, 8, nodes[2]->range(51, RangeMode::write, {100 * other, 100 * other}));
  cluster.run_for(10ms);
  CHECK((!for_dead.ended && !for_living.ended));
  nodes[dying].reset();
  const Member dead = cluster.node(dying).member;
  cluster.kill(dying);
  cluster.change_view();
  cluster.run_for(10ms);
  // It may not know yet that it is dead; what it had locked is known to nobody if it was the master.
  CHECK(!for_dead.ended);
  Waiting elsewhere(*nodes[2], nodes[2]->locks, 8, nodes[2]->range(53, RangeMode::write, {5000, 5000}));
  cluster.run_for(10ms);
  CHECK(!elsewhere.ended);
  cluster.announce_recovered(dead);
  cluster.run_for(10ms);
  CHECK(elsewhere.ended == 0);
  CHECK(for_dead.ended == 0);
  CHECK(!for_living.ended);
  CHECK(nodes[2]->test(8, nodes[2]->range(52, RangeMode::read, {100 * other, 100 * other}))->owner.node ==
        cluster.node(other).member);
  REQUIRE(nodes[other]->set(8, nodes[other]->range(other, RangeMode::unlocked, kWholeFile)) == 0);
  cluster.run_for(10ms);
  CHECK(for_living.ended == 0);
  CHECK(cluster.faults() == 0);
}

namespace {

/// Random processes on all nodes lock ranges of a few files; what each was granted is checked against all others'.
class RandomProcesses {
 public:
  static constexpr std::size_t kUsers = 3;  ///< on each node
  explicit RandomProcesses(std::uint64_t seed) : random_(seed), cluster_(seed + 99) {
    const auto count = static_cast<std::uint32_t>(random_.between(2, 5));
    cluster_.start_all(count);
    for (std::uint32_t i = 0; i < count; ++i) {
      nodes_.push_back(std::make_unique<Processes>(cluster_, i));
      for (std::uint32_t process = 0; process < kUsers; ++process) {
        ++working_;
        users_.push_back(std::make_unique<Scope>(cluster_.executor));
        users_.back()->spawn(use(*this, *nodes_.back(), i * 10 + process, random_.split()));
      }
    }
  }
  ~RandomProcesses() { users_.clear(); }

  void play() {
    for (int round = 0; round < 30; ++round) {
      cluster_.run_for(std::chrono::microseconds(random_.between(100, 20'000)));
      if (random_.chance(1, 15)) kill_one();
      if (random_.chance(1, 4)) bury();
      // Perhaps the same members: everything in flight is lost and comes to its end all the same.
      if (random_.chance(1, 3)) cluster_.announce(cluster_.next_view(), [this] { return random_delay(); });
    }
    cluster_.announce(cluster_.next_view(), [this] { return random_delay(); });
    bury();
    stopping_ = true;
    if (!cluster_.run_until([this] { return working_ == 0; })) failures.push_back("somebody waits for ever");
    failures.insert(failures.end(), cluster_.log.lines.begin(), cluster_.log.lines.end());
  }
  std::vector<std::string> failures;
  std::uint64_t grants = 0;

 private:
  /// What it had locked is nobody else's before its journal is replayed: it stays in the model until then.
  void kill_one() {
    const std::size_t victim = random_.below(nodes_.size());
    const auto living = std::ranges::count_if(nodes_, [](const auto& node) { return node != nullptr; });
    if (nodes_[victim] == nullptr || living == 1) return;
    dead_.push_back(nodes_[victim]->node.member);
    for (std::size_t user = 0; user < kUsers; ++user, --working_)
      users_[victim * kUsers + user].reset();
    nodes_[victim].reset();
    cluster_.kill(static_cast<std::uint32_t>(victim));
    cluster_.announce(cluster_.next_view(), [this] { return random_delay(); });
  }
  void bury() {
    for (const Member& dead : std::exchange(dead_, {})) {
      for (auto& [inode, table] : model_) {
        for (const HeldRange& held : table.held())
          if (held.owner.node == dead) table.set({held.owner, 0, RangeMode::unlocked, held.range});
      }
      cluster_.announce_recovered(dead, [this] { return random_delay(); });
    }
  }

  Duration random_delay() { return std::chrono::microseconds(random_.between(0, 3000)); }

  static Task<void> use(RandomProcesses& run, Processes& node, std::uint32_t process, Random random) {
    while (!run.stopping_) {
      const std::uint64_t inode = random.below(2);
      for (auto steps = random.between(1, 4); steps > 0; --steps)
        co_await step(run, node, inode, process, random);
      const HeldRange all = node.range(process, RangeMode::unlocked, kWholeFile);
      run.model_[inode].set(all);
      auto unlocked = co_await node.locks.set(inode, all, nullptr);
      if (!unlocked) run.failures.push_back("an unlock failed");
      co_await run.cluster_.executor.sleep_for(std::chrono::microseconds(random.between(0, 1000)));
    }
    --run.working_;
  }

  static Task<void> step(RandomProcesses& run, Processes& node, std::uint64_t inode, std::uint32_t process,
                         Random& random) {
    const std::uint64_t first = random.below(100);
    const HeldRange wanted =
        node.range(process, static_cast<RangeMode>(random.below(3)), {first, random.between(first, 99)});
    // From here on the process relies on no more than what both the old and the new lock give.
    run.model_[inode].weaken(wanted);
    RangeWait wait(node.node.manager);
    Scope signals(run.cluster_.executor);
    // Everybody waits with a signal to come, so that no deadlock between nodes lasts.
    signals.spawn(signal_later(run, wait, std::chrono::microseconds(random.between(0, 8000))));
    auto result = co_await node.locks.set(inode, wanted, random.chance(2, 3) ? &wait : nullptr);
    if (!result) {
      const int error = result.error().code();
      if (error != EAGAIN && error != EINTR && error != EDEADLK) run.failures.push_back(result.error().describe());
      co_return;
    }
    ++run.grants;
    if (run.model_[inode].conflict(wanted)) run.failures.push_back("a range was granted twice");
    run.model_[inode].set(wanted);
    co_await run.cluster_.executor.sleep_for(std::chrono::microseconds(random.between(0, 1000)));
  }

  static Task<void> signal_later(RandomProcesses& run, RangeWait& wait, Duration delay) {
    co_await run.cluster_.executor.sleep_for(delay);
    wait.cancel();
  }

  Random random_;
  Cluster cluster_;
  std::vector<std::unique_ptr<Processes>> nodes_;
  std::vector<Member> dead_;  ///< whose journals are not replayed
  std::map<std::uint64_t, RangeTable> model_;
  std::size_t working_ = 0;
  bool stopping_ = false;
  std::vector<std::unique_ptr<Scope>> users_;
};

}  // namespace

TEST_CASE("random POSIX locks are never granted twice, while views change and nodes die") {
  const std::uint64_t first = corral::test::number_from_environment("CORRAL_SEED", 1);
  const std::uint64_t count = std::getenv("CORRAL_SEED") != nullptr ? 1 : 60;
  for (std::uint64_t seed = first; seed < first + count; ++seed) {
    RandomProcesses run(seed);
    run.play();
    std::string report;
    for (const std::string& failure : run.failures)
      report += failure + "\n";
    INFO("replay with CORRAL_SEED=" << seed << "\n" << report);
    REQUIRE(report.empty());
    CHECK(run.grants > 50);
  }
}
