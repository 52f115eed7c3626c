// Locks between nodes when nothing fails: what costs how many messages, blocking callbacks, value blocks, conversions.
#include "test/sim/dlm/support.h"

using namespace corral;
using namespace corral::dlm;
using namespace corral::dlm::test;
using namespace std::chrono_literals;

namespace {

constexpr LockspaceId kSpace{1};

SimulatedNetworkOptions fixed_latency() {
  SimulatedNetworkOptions options;
  options.latency_min = options.latency_max = 1ms;
  return options;
}

/// Gives way at once, as a glock without dirty data does.
class Yielding final : public LockListener {
 public:
  Yielding(Scope& scope, Mode keep) : scope_(scope), keep_(keep) {}
  void blocking(Lock& lock, Mode requested) override {
    asked.push_back(requested);
    scope_.spawn(give_way(lock, keep_));
  }
  std::vector<Mode> asked;

 private:
  static Task<void> give_way(Lock& lock, Mode keep) { (void)co_await lock.acquire(keep, {.value = true}, value_of(7)); }
  Scope& scope_;
  Mode keep_;
};

}  // namespace

TEST_CASE("a node's private working set needs no message after its first use") {
  Cluster cluster(1);
  cluster.start_all(4);
  LockManager& manager = cluster.node(2).manager;
  std::vector<std::unique_ptr<Lock>> locks;
  for (int i = 0; i < 200; ++i) {
    locks.push_back(std::make_unique<Lock>(manager, ResourceName(kSpace, fmt::format("file {}", i)), nullptr));
    REQUIRE(acquire(cluster, *locks.back(), Mode::exclusive) == 0);
  }
  cluster.run_for(1s);
  const auto before = cluster.messages();
  for (auto& lock : locks) {
    REQUIRE(acquire(cluster, *lock, Mode::null, {.value = true}, value_of(1)) == 0);
    REQUIRE(acquire(cluster, *lock, Mode::protected_read) == 0);
    REQUIRE(release(cluster, *lock) == 0);
  }
  // Given up and taken anew: the mastership is remembered.
  for (auto& lock : locks)
    REQUIRE(acquire(cluster, *lock, Mode::exclusive) == 0);
  cluster.run_for(1s);
  CHECK(cluster.messages() == before);
  CHECK(locks[0]->value().bytes == value_of(1));
  CHECK(manager.counters().remote_operations <= 200);
}

TEST_CASE("operations on locks mastered here end without suspending") {
  Cluster cluster(1);
  cluster.start_all(1);
  Lock lock(cluster.node(0).manager, ResourceName(kSpace, "x"), nullptr);
  bool ended = false;
  auto run = [](Lock& l, bool& out) -> Task<void> {
    for (Mode mode : {Mode::exclusive, Mode::null, Mode::protected_read, Mode::exclusive})
      CHECK((co_await l.acquire(mode)).has_value());
    CHECK((co_await l.release()).has_value());
    out = true;
  };
  Scope scope(cluster.executor);
  scope.spawn(run(lock, ended));
  CHECK(ended);
}

TEST_CASE("a clean lock goes from node to node in at most three message trips") {
  const std::uint32_t holder = GENERATE(0u, 1u);
  const std::uint32_t keeper = GENERATE(0u, 1u, 2u);
  const bool third = GENERATE(false, true);
  if (keeper == 2 && !third) return;
  Cluster cluster(1, fixed_latency());
  cluster.start_all(third ? 3 : 2);
  const ResourceName name = name_kept_by(cluster.node(0), NodeId(keeper));
  Yielding yielding(cluster.node(holder).users, Mode::null);
  Lock held(cluster.node(holder).manager, name, &yielding);
  REQUIRE(acquire(cluster, held, Mode::exclusive) == 0);
  cluster.run_for(1s);
  Lock wanted(cluster.node(1 - holder).manager, name, nullptr);
  // The first time the master has to be found; later, and back, it is known.
  const Time asked = cluster.clock.now();
  REQUIRE(acquire(cluster, wanted, Mode::exclusive) == 0);
  CHECK(cluster.clock.now() - asked <= 3ms);
  CHECK(held.granted() == Mode::null);
  CHECK(yielding.asked == std::vector<Mode>{Mode::exclusive});
  REQUIRE(acquire(cluster, wanted, Mode::null) == 0);
  REQUIRE(acquire(cluster, held, Mode::exclusive) == 0);
  const Time again = cluster.clock.now();
  REQUIRE(acquire(cluster, wanted, Mode::exclusive) == 0);
  CHECK(cluster.clock.now() - again <= 2ms);
  CHECK(cluster.faults() == 0);
}

TEST_CASE("a value block goes from the last writer to the next reader") {
  Cluster cluster(3);
  cluster.start_all(3);
  const ResourceName name(kSpace, "counts");
  Lock first(cluster.node(0).manager, name, nullptr);
  Lock second(cluster.node(1).manager, name, nullptr);
  Lock third(cluster.node(2).manager, name, nullptr);
  for (Lock* lock : {&first, &second, &third})
    REQUIRE(acquire(cluster, *lock, Mode::null) == 0);
  CHECK(first.value() == LockValue{});
  REQUIRE(acquire(cluster, second, Mode::protected_write) == 0);
  REQUIRE(acquire(cluster, second, Mode::null, {.value = true}, value_of(5)) == 0);
  REQUIRE(acquire(cluster, third, Mode::protected_read) == 0);
  CHECK(third.value().bytes == value_of(5));
  REQUIRE(release(cluster, third) == 0);
  REQUIRE(acquire(cluster, first, Mode::exclusive) == 0);
  CHECK(first.value().bytes == value_of(5));
  // Without the flag nothing is written.
  REQUIRE(acquire(cluster, first, Mode::null, {}, value_of(6)) == 0);
  REQUIRE(acquire(cluster, second, Mode::exclusive) == 0);
  CHECK(second.value().bytes == value_of(5));
  REQUIRE(release(cluster, second, {.value = true}, value_of(9)) == 0);
  REQUIRE(acquire(cluster, first, Mode::concurrent_read) == 0);
  CHECK(first.value().bytes == value_of(9));
  CHECK(first.value().valid);
  CHECK(cluster.faults() == 0);
}

TEST_CASE("no_queue and try: a refusal, with and without a word to the holder") {
  Cluster cluster(4);
  cluster.start_all(2);
  const ResourceName name(kSpace, "busy");
  Yielding yielding(cluster.node(0).users, Mode::protected_read);
  Lock held(cluster.node(0).manager, name, &yielding);
  REQUIRE(acquire(cluster, held, Mode::exclusive) == 0);
  Lock wanted(cluster.node(1).manager, name, nullptr);
  CHECK(acquire(cluster, wanted, Mode::protected_read, {.no_queue = true}) == EAGAIN);
  CHECK(!wanted.granted());
  cluster.run_for(10ms);
  CHECK(yielding.asked.empty());
  CHECK(acquire(cluster, wanted, Mode::protected_read, {.no_queue = true, .no_queue_blocking = true}) == EAGAIN);
  cluster.run_for(10ms);
  CHECK(yielding.asked == std::vector<Mode>{Mode::protected_read});
  CHECK(acquire(cluster, wanted, Mode::protected_read, {.no_queue = true}) == 0);
  // A conversion that is refused keeps its mode.
  CHECK(acquire(cluster, wanted, Mode::exclusive, {.no_queue = true}) == EAGAIN);
  CHECK(wanted.granted() == Mode::protected_read);
}

TEST_CASE("a request that waits can be cancelled, from wherever it is") {
  const int delay_us = GENERATE(0, 500, 1000, 1500, 2000, 2500, 5000);
  Cluster cluster(5, fixed_latency());
  cluster.start_all(3);
  const ResourceName name = name_kept_by(cluster.node(0), NodeId(2));
  Lock held(cluster.node(0).manager, name, nullptr);
  REQUIRE(acquire(cluster, held, Mode::exclusive) == 0);
  Lock wanted(cluster.node(1).manager, name, nullptr);
  std::optional<int> error;
  auto run = [](Lock& lock, std::optional<int>& out) -> Task<void> {
    auto result = co_await lock.acquire(Mode::protected_read);
    out = result ? 0 : result.error().code();
  };
  cluster.node(1).users.spawn(run(wanted, error));
  cluster.run_for(std::chrono::microseconds(delay_us));
  CHECK(!error);
  wanted.cancel();
  REQUIRE(cluster.run_until([&] { return error.has_value(); }));
  CHECK(error == ECANCELED);
  CHECK(!wanted.granted());
  // And a conversion keeps what it had.
  REQUIRE(acquire(cluster, held, Mode::protected_read) == 0);
  REQUIRE(acquire(cluster, wanted, Mode::protected_read) == 0);
  std::optional<int> converted;
  auto convert = [](Lock& lock, std::optional<int>& out) -> Task<void> {
    auto result = co_await lock.acquire(Mode::exclusive);
    out = result ? 0 : result.error().code();
  };
  cluster.node(1).users.spawn(convert(wanted, converted));
  cluster.run_for(std::chrono::microseconds(delay_us));
  wanted.cancel();
  REQUIRE(cluster.run_until([&] { return converted.has_value(); }));
  CHECK(converted == ECANCELED);
  CHECK(wanted.granted() == Mode::protected_read);
  CHECK(cluster.faults() == 0);
}

TEST_CASE("two nodes that both convert up: one is told of the deadlock, or demoted") {
  const bool demote = GENERATE(false, true);
  Cluster cluster(6);
  cluster.start_all(2);
  const ResourceName name(kSpace, "both");
  Lock first(cluster.node(0).manager, name, nullptr);
  Lock second(cluster.node(1).manager, name, nullptr);
  REQUIRE(acquire(cluster, first, Mode::protected_read) == 0);
  REQUIRE(acquire(cluster, second, Mode::protected_read) == 0);
  std::optional<bool> first_done;
  auto convert = [](Lock& lock, LockFlags flags, std::optional<bool>& demoted) -> Task<void> {
    auto result = co_await lock.acquire(Mode::exclusive, flags);
    if (result) demoted = result->demoted;
  };
  cluster.node(0).users.spawn(convert(first, {}, first_done));
  cluster.run_for(10ms);
  CHECK(!first_done);
  if (!demote) {
    CHECK(acquire(cluster, second, Mode::exclusive) == EDEADLK);
    CHECK(second.granted() == Mode::protected_read);
    REQUIRE(release(cluster, second) == 0);
    cluster.run_for(10ms);
    CHECK(first_done == false);
    return;
  }
  std::optional<bool> second_done;
  cluster.node(1).users.spawn(convert(second, {.demote_on_deadlock = true}, second_done));
  cluster.run_for(10ms);
  REQUIRE(first_done == false);
  CHECK(!second_done);
  REQUIRE(release(cluster, first) == 0);
  cluster.run_for(10ms);
  CHECK(second_done == true);
  CHECK(second.granted() == Mode::exclusive);
}

TEST_CASE("forgotten resources: the directory learns of it, whoever asks at the wrong node is sent on") {
  Cluster cluster(7);
  cluster.limits.unused_resources = 4;
  cluster.start_all(3);
  Random random(11);
  for (int round = 0; round < 2000; ++round) {
    const auto node = static_cast<std::uint32_t>(random.below(3));
    Lock lock(cluster.node(node).manager, ResourceName(kSpace, fmt::format("r{}", random.below(12))), nullptr);
    REQUIRE(acquire(cluster, lock, Mode::exclusive) == 0);
    if (random.chance(1, 2)) REQUIRE(release(cluster, lock) == 0);
  }
  cluster.run_for(1s);
  CHECK(cluster.faults() == 0);
  for (std::uint32_t node = 0; node < 3; ++node)
    CHECK(cluster.node(node).manager.dump().resources.size() <= 4);
}

TEST_CASE("one hundred thousand locks") {
  Cluster cluster(8);
  cluster.start_all(3);
  struct Crowd {
    static Task<void> take(Lock& lock, std::size_t& granted) {
      auto result = co_await lock.acquire(Mode::protected_read);
      if (result) ++granted;
    }
  };
  std::vector<std::unique_ptr<Lock>> locks;
  std::size_t granted = 0;
  for (int i = 0; i < 100'000; ++i) {
    Node& node = cluster.node(static_cast<std::uint32_t>(i % 3));
    // Every name is locked by two nodes.
    locks.push_back(
        std::make_unique<Lock>(node.manager, ResourceName(kSpace, fmt::format("inode {}", i / 2)), nullptr));
    node.users.spawn(Crowd::take(*locks.back(), granted));
  }
  REQUIRE(cluster.run_until([&] { return granted == 100'000; }));
  // Messages share frames: far fewer frames than operations.
  CHECK(cluster.messages() < 20'000);
  // A node dies: half of the others' locks lose their master or not, all survive.
  for (int i = 0; i < 100'000; ++i) {
    if (i % 3 == 2) locks[static_cast<std::size_t>(i)].reset();
  }
  const Member dead = cluster.node(2).member;
  cluster.kill(2);
  cluster.change_view();
  cluster.announce_recovered(dead);
  cluster.run_for(100ms);
  for (std::size_t i = 0; i < locks.size(); ++i) {
    if (locks[i] && locks[i]->granted() != Mode::protected_read) FAIL("lock " << i << " is lost");
  }
  std::size_t at_masters = 0;
  for (std::uint32_t node = 0; node < 2; ++node) {
    for (const DumpedResource& resource : cluster.node(node).manager.dump().resources) {
      if (resource.master == cluster.node(node).member) at_masters += resource.locks.size();
    }
  }
  CHECK(at_masters == 66'667);
  CHECK(cluster.faults() == 0);
}
