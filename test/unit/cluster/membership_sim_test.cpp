// Whole clusters under virtual time. CORRAL_SEED=n tries one seed, CORRAL_SEEDS=n so many.
#include <numeric>

#include "test/support/catch.h"
#include "test/support/environment.h"
#include "test/support/simulated_cluster.h"

using namespace corral;
using namespace corral::test;
using cluster::QuorumPolicy;

namespace {

/// Runs a scenario for many seeds; every check inside names its seed.
template <class Scenario>
void for_seeds(std::uint64_t count, Scenario scenario) {
  const std::uint64_t only = number_from_environment("CORRAL_SEED", 0);
  if (only != 0) return scenario(only);
  for (std::uint64_t seed = 1; seed <= number_from_environment("CORRAL_SEEDS", count); ++seed)
    scenario(seed);
}

std::vector<std::uint32_t> indexes(std::uint32_t first, std::uint32_t end) {
  std::vector<std::uint32_t> all(end - first);
  std::iota(all.begin(), all.end(), first);
  return all;
}

void expect(SimulatedCluster& cluster, Duration limit, const std::vector<std::uint32_t>& members) {
  const bool agreed = cluster.run_until(limit, [&] { return cluster.agreed(members); });
  INFO(cluster.describe());
  REQUIRE(agreed);
}

/// A cluster whose nodes have all joined.
void start_all(SimulatedCluster& cluster) {
  for (std::uint32_t i = 0; i < cluster.options.nodes; ++i)
    cluster.start(i);
  expect(cluster, 60s, indexes(0, cluster.options.nodes));
}

/// While it is off, who loses a split stays out: its next life would have another slot, which is not cut off.
void let_rejoin(SimulatedCluster& cluster, bool on) {
  for (const auto& node : cluster.nodes)
    node->rejoin = on;
}

}  // namespace

TEST_CASE("one node is a cluster of its own", "[sim]") {
  for_seeds(5, [](std::uint64_t seed) {
    SimulatedCluster cluster({.seed = seed, .nodes = 1});
    cluster.start(0);
    expect(cluster, 10s, {0});
    CHECK(cluster.node(0).self().node == NodeId(0));
  });
}

TEST_CASE("five nodes join at once", "[sim]") {
  for_seeds(20, [](std::uint64_t seed) {
    SimulatedCluster cluster({.seed = seed, .nodes = 5, .journals = 5});
    start_all(cluster);
  });
}

TEST_CASE("one node joins while another leaves", "[sim]") {
  for_seeds(20, [](std::uint64_t seed) {
    SimulatedCluster cluster({.seed = seed, .nodes = 4});
    for (std::uint32_t i = 0; i < 3; ++i)
      cluster.start(i);
    expect(cluster, 60s, {0, 1, 2});
    cluster.start(3);
    cluster.run_for(std::chrono::milliseconds(seed * 137 % 2000));
    cluster.leave(1);
    expect(cluster, 60s, {0, 2, 3});
    INFO(cluster.describe());
    REQUIRE(cluster.node(1).end);
    CHECK(cluster.node(1).end->why == MembershipEnded::Why::left);
  });
}

TEST_CASE("the leader leaves, the last one leaves, and the cluster begins anew", "[sim]") {
  for_seeds(10, [](std::uint64_t seed) {
    SimulatedCluster cluster({.seed = seed, .nodes = 3});
    start_all(cluster);
    std::vector<std::uint32_t> left{0, 1, 2};
    while (!left.empty()) {
      auto leader =
          std::ranges::find_if(left, [&](std::uint32_t i) { return cluster.node(i).membership->core().is_leader(); });
      REQUIRE(leader != left.end());
      const std::uint32_t index = *leader;
      cluster.leave(index);
      left.erase(leader);
      REQUIRE(cluster.run_until(20s, [&] { return cluster.node(index).end.has_value(); }));
      CHECK(cluster.node(index).end->why == MembershipEnded::Why::left);
      if (!left.empty()) expect(cluster, 20s, left);
    }
    CHECK(cluster.shared.keys.empty());
    start_all(cluster);
  });
}

TEST_CASE("a node dies, leader or not, and comes back", "[sim]") {
  for_seeds(30, [](std::uint64_t seed) {
    SimulatedCluster cluster({.seed = seed, .nodes = 4});
    start_all(cluster);
    const auto dead = static_cast<std::uint32_t>(seed % 4);
    std::vector<std::uint32_t> rest = indexes(0, 4);
    rest.erase(rest.begin() + dead);
    cluster.kill(dead, seed % 3 == 0);
    expect(cluster, 40s, rest);
    cluster.start(dead);
    expect(cluster, 60s, indexes(0, 4));
  });
}

TEST_CASE("on a slow disk, too, a dead node is recovered once", "[sim]") {
  for_seeds(20, [](std::uint64_t seed) {
    SimulatedCluster cluster({.seed = seed, .nodes = 3});
    start_all(cluster);
    // To free a slot takes longer than from one reading of the slots to the next.
    for (const auto& node : cluster.nodes)
      node->path.delay = 400ms;
    cluster.kill(static_cast<std::uint32_t>(seed % 3));
    std::vector<std::uint32_t> rest = indexes(0, 3);
    rest.erase(rest.begin() + static_cast<std::ptrdiff_t>(seed % 3));
    expect(cluster, 60s, rest);
    cluster.run_for(10s);
  });
}

TEST_CASE("a process that has ended is not waited for", "[sim]") {
  for_seeds(30, [](std::uint64_t seed) {
    SimulatedCluster cluster({.seed = seed, .nodes = 4});
    start_all(cluster);
    const auto dead = static_cast<std::uint32_t>(seed % 4);
    std::vector<std::uint32_t> rest = indexes(0, 4);
    rest.erase(rest.begin() + dead);
    cluster.run_for(std::chrono::milliseconds(seed * 137 % 1000));
    cluster.kill(dead);
    // A fourth of the failure timeout, where silence alone would take all of it.
    const auto shrunk = [&] { return cluster.node(rest.front()).membership->core().view().members.size() == 3; };
    const bool soon = cluster.run_until(1250ms, shrunk);
    INFO(cluster.describe());
    CHECK(soon);
    expect(cluster, 5s, rest);
  });
}

TEST_CASE("who is refused in the place of a living node goes by its heartbeats", "[sim]") {
  for_seeds(20, [](std::uint64_t seed) {
    SimulatedCluster cluster({.seed = seed, .nodes = 3});
    start_all(cluster);
    const auto shut_off = static_cast<std::uint32_t>(seed % 3);
    std::vector<std::uint32_t> rest = indexes(0, 3);
    rest.erase(rest.begin() + shut_off);
    const Member before = cluster.node(shut_off).self();
    let_rejoin(cluster, false);
    cluster.network.refuse(before.node);
    // Not taken for dead, but outvoted, as where nothing came through.
    cluster.run_for(2s);
    CHECK(cluster.shared.keys.contains(NodeFencer::key(before)));
    expect(cluster, 40s, rest);
    cluster.network.heal_all();
    let_rejoin(cluster, true);
    expect(cluster, 90s, indexes(0, 3));
  });
}

TEST_CASE("a node that dies and is started again at once waits for its own recovery", "[sim]") {
  for_seeds(10, [](std::uint64_t seed) {
    SimulatedCluster cluster({.seed = seed, .nodes = 3});
    start_all(cluster);
    cluster.kill(static_cast<std::uint32_t>(seed % 3));
    cluster.start(static_cast<std::uint32_t>(seed % 3));
    expect(cluster, 60s, indexes(0, 3));
  });
}

TEST_CASE("of a split the larger part goes on, the smaller comes back when it is healed", "[sim]") {
  for_seeds(20, [](std::uint64_t seed) {
    SimulatedCluster cluster({.seed = seed, .nodes = 5});
    start_all(cluster);
    let_rejoin(cluster, false);
    cluster.split({0, 1}, {2, 3, 4});
    expect(cluster, 60s, {2, 3, 4});
    CHECK_FALSE(cluster.node(0).serves());
    cluster.network.heal_all();
    let_rejoin(cluster, true);
    expect(cluster, 120s, indexes(0, 5));
  });
}

TEST_CASE("of an even split one half goes on; of two nodes one", "[sim]") {
  for_seeds(20, [](std::uint64_t seed) {
    for (std::uint32_t half : {1u, 2u}) {
      SimulatedCluster cluster({.seed = seed, .nodes = 2 * half});
      start_all(cluster);
      // All are equally healthy: the half with the lowest member.
      std::uint32_t lowest = 0;
      for (std::uint32_t i = 0; i < 2 * half; ++i) {
        if (cluster.node(i).self() < cluster.node(lowest).self()) lowest = i;
      }
      let_rejoin(cluster, false);
      cluster.split(indexes(0, half), indexes(half, 2 * half));
      const bool first_half = lowest < half;
      expect(cluster, 60s, first_half ? indexes(0, half) : indexes(half, 2 * half));
      cluster.network.heal_all();
      let_rejoin(cluster, true);
      expect(cluster, 120s, indexes(0, 2 * half));
    }
  });
}

TEST_CASE("of an even split the healthier half goes on", "[sim]") {
  for_seeds(10, [](std::uint64_t seed) {
    SimulatedCluster cluster({.seed = seed, .nodes = 4});
    cluster.node(seed % 4).health = 10;
    start_all(cluster);
    let_rejoin(cluster, false);
    cluster.split({0, 1}, {2, 3});
    expect(cluster, 60s, seed % 4 < 2 ? indexes(2, 4) : indexes(0, 2));
  });
}

TEST_CASE("a connection lost in one direction takes one node out, not the cluster", "[sim]") {
  for_seeds(20, [](std::uint64_t seed) {
    SimulatedCluster cluster({.seed = seed, .nodes = 3});
    start_all(cluster);
    let_rejoin(cluster, false);
    cluster.split({0}, {1}, false);
    const bool two = cluster.run_until(60s, [&] { return cluster.agreed({0, 2}) || cluster.agreed({1, 2}); });
    INFO(cluster.describe());
    REQUIRE(two);
  });
}

TEST_CASE("who does not hear every member is not let in, is told whom, and costs nobody anything", "[sim]") {
  for_seeds(20, [](std::uint64_t seed) {
    SimulatedCluster cluster({.seed = seed, .nodes = 4, .journals = 4});
    for (std::uint32_t i = 0; i < 3; ++i)
      cluster.start(i);
    expect(cluster, 60s, {0, 1, 2});
    const ViewNumber before = cluster.node(0).membership->core().view().number;
    // The slot that is left for it: of 0 to 3 the one that makes up their sum.
    NodeId last(0 + 1 + 2 + 3);
    for (std::uint32_t i = 0; i < 3; ++i)
      last.value -= cluster.node(i).self().node.value;
    const auto unheard = static_cast<std::uint32_t>(seed % 3);
    cluster.network.cut(last, cluster.node(unheard).self().node);
    if (seed % 2 == 0) cluster.network.cut(cluster.node(unheard).self().node, last);
    cluster.start(3);
    const bool refused = cluster.run_until(60s, [&] { return cluster.node(3).end.has_value(); });
    INFO(cluster.describe());
    REQUIRE(refused);
    CHECK(cluster.node(3).end->why == MembershipEnded::Why::refused);
    CHECK(cluster.node(3).end->reason.describe().find("node " + cluster.node(unheard).name + " lives") !=
          std::string::npos);
    CHECK(cluster.agreed({0, 1, 2}));
    CHECK(cluster.node(0).membership->core().view().number == before);
    cluster.network.heal_all();
    cluster.start(3);
    expect(cluster, 60s, indexes(0, 4));
  });
}

TEST_CASE("a connection that breaks and comes back gives a new view of the same members", "[sim]") {
  for_seeds(20, [](std::uint64_t seed) {
    SimulatedCluster cluster({.seed = seed, .nodes = 3});
    start_all(cluster);
    const ViewNumber before = cluster.node(0).membership->core().view().number;
    cluster.network.break_connection(cluster.node(0).self().node, cluster.node(1).self().node);
    cluster.run_for(100ms);
    expect(cluster, 20s, indexes(0, 3));
    cluster.run_for(3s);
    expect(cluster, 20s, indexes(0, 3));
    CHECK(cluster.node(0).membership->core().view().number > before);
    CHECK(cluster.node(0).end == std::nullopt);
  });
}

TEST_CASE("a paused node is fenced, serves nothing when it goes on, and comes back", "[sim]") {
  for_seeds(30, [](std::uint64_t seed) {
    SimulatedCluster cluster({.seed = seed, .nodes = 3});
    start_all(cluster);
    const auto paused = static_cast<std::uint32_t>(seed % 3);
    std::vector<std::uint32_t> rest = indexes(0, 3);
    rest.erase(rest.begin() + paused);
    cluster.pause(paused);
    cluster.run_for(std::chrono::milliseconds(4000 + seed * 331 % 9000));
    cluster.resume(paused);
    CHECK_FALSE(cluster.node(paused).serves());
    expect(cluster, 120s, indexes(0, 3));
  });
}

TEST_CASE("a short pause costs nothing", "[sim]") {
  for_seeds(10, [](std::uint64_t seed) {
    SimulatedCluster cluster({.seed = seed, .nodes = 3});
    start_all(cluster);
    const Member before = cluster.node(1).self();
    cluster.pause(1);
    cluster.run_for(2s);
    cluster.resume(1);
    cluster.run_for(15s);
    expect(cluster, 10s, indexes(0, 3));
    CHECK(cluster.node(1).self() == before);
  });
}

TEST_CASE("a disk slower than usual, but faster than the timeout, gets nobody fenced", "[sim]") {
  for_seeds(10, [](std::uint64_t seed) {
    SimulatedCluster cluster({.seed = seed, .nodes = 3});
    start_all(cluster);
    std::vector<Member> before;
    for (const auto& node : cluster.nodes) {
      node->path.delay = 1500ms;
      before.push_back(node->self());
    }
    cluster.run_for(120s);
    for (const auto& node : cluster.nodes)
      node->path.delay = {};
    expect(cluster, 10s, indexes(0, 3));
    for (std::uint32_t i = 0; i < 3; ++i)
      CHECK(cluster.node(i).self() == before[i]);
  });
}

TEST_CASE("a node whose disk hangs stops serving before it is fenced", "[sim]") {
  for_seeds(10, [](std::uint64_t seed) {
    SimulatedCluster cluster({.seed = seed, .nodes = 3});
    start_all(cluster);
    const auto number = cluster.node(0).device.add_fault({.effect = SimulatedFault::Effect::stuck});
    cluster.run_for(4s);
    CHECK_FALSE(cluster.node(0).serves());
    CHECK(cluster.node(0).is_member());
    cluster.run_for(10s);
    cluster.node(0).device.remove_fault(number);
    expect(cluster, 120s, indexes(0, 3));
  });
}

TEST_CASE("the last man stands", "[sim]") {
  for_seeds(20, [](std::uint64_t seed) {
    SimulatedCluster cluster({.seed = seed, .nodes = 5});
    start_all(cluster);
    const auto last = static_cast<std::uint32_t>(seed % 5);
    for (std::uint32_t i = 0; i < 5; ++i) {
      if (i != last) cluster.kill(i, seed % 2 == 0);
    }
    expect(cluster, 60s, {last});
    start_all(cluster);
  });
}

TEST_CASE("with a majority required the smaller part waits, and goes on when enough come back", "[sim]") {
  for_seeds(10, [](std::uint64_t seed) {
    SimulatedCluster cluster({.seed = seed, .nodes = 5, .settings = {.quorum = QuorumPolicy::majority}});
    start_all(cluster);
    for (std::uint32_t i = 0; i < 2; ++i)
      cluster.kill(i);
    expect(cluster, 60s, {2, 3, 4});
    cluster.kill(2);
    cluster.run_for(60s);
    CHECK_FALSE(cluster.node(3).serves());
    CHECK_FALSE(cluster.node(4).serves());
    CHECK(cluster.node(3).is_member());
  });
}

TEST_CASE("all die and all come back: the first one replays, then the others are let in", "[sim]") {
  for_seeds(20, [](std::uint64_t seed) {
    for (std::uint32_t journals : {4u, 8u}) {
      SimulatedCluster cluster({.seed = seed, .nodes = 4, .journals = journals});
      start_all(cluster);
      for (std::uint32_t i = 0; i < 4; ++i)
        cluster.kill(i, true);
      cluster.run_for(std::chrono::milliseconds(seed * 977 % 10'000));
      for (std::uint32_t i = 0; i < 4; ++i)
        cluster.start(i);
      const bool back = cluster.run_until(180s, [&] { return cluster.agreed(indexes(0, 4)); });
      INFO(cluster.describe());
      REQUIRE(back);
    }
  });
}

TEST_CASE("failing fencing delays the view, and never lets two go on", "[sim]") {
  for_seeds(10, [](std::uint64_t seed) {
    SimulatedCluster cluster({.seed = seed, .nodes = 3});
    start_all(cluster);
    for (const auto& node : cluster.nodes)
      node->fencer.failing = true;
    let_rejoin(cluster, false);
    cluster.split({0}, {1, 2});
    cluster.run_for(30s);
    CHECK_FALSE(cluster.agreed({1, 2}));
    for (const auto& node : cluster.nodes)
      node->fencer.failing = false;
    expect(cluster, 60s, {1, 2});
  });
}

TEST_CASE("who cannot be let in is told why", "[sim]") {
  auto refused = [](SimulatedCluster& cluster, std::uint32_t index, const std::string& text) {
    REQUIRE(cluster.run_until(120s, [&] { return cluster.node(index).end.has_value(); }));
    const MembershipEnded& end = *cluster.node(index).end;
    INFO(end.reason.describe());
    CHECK(end.why == MembershipEnded::Why::refused);
    CHECK(end.reason.message().find(text) != std::string::npos);
  };
  SimulatedCluster cluster({.seed = 1, .nodes = 3, .journals = 2});
  cluster.start(0);
  expect(cluster, 20s, {0});
  SECTION("a name twice") {
    cluster.node(1).name = cluster.node(0).name;
    cluster.start(1);
    refused(cluster, 1, "the name node-0 is that of a living node");
  }
  SECTION("another protocol version") {
    cluster.node(1).protocol_version = 9;
    cluster.start(1);
    refused(cluster, 1, "protocol version 9");
  }
  SECTION("no free journal") {
    cluster.start(1);
    expect(cluster, 20s, {0, 1});
    cluster.start(2);
    refused(cluster, 2, "all 2 journals are in use");
  }
  SECTION("no connection") {
    for (std::uint32_t i = 1; i < 4; ++i) {
      cluster.network.cut(NodeId(0), NodeId(i));
      cluster.network.cut(NodeId(i), NodeId(0));
    }
    cluster.start(1);
    refused(cluster, 1, "node node-0 lives");
  }
  expect(cluster, 60s, cluster.node(1).is_member() ? std::vector<std::uint32_t>{0, 1} : std::vector<std::uint32_t>{0});
}

TEST_CASE("whatever happens, no two views serve, and in the end all go on", "[sim]") {
  for_seeds(60, [](std::uint64_t seed) {
    Random random(seed * 7919);
    const auto count = static_cast<std::uint32_t>(random.between(2, 8));
    SimulatedCluster cluster({.seed = seed, .nodes = count, .journals = 8});
    start_all(cluster);
    for (int event = 0; event < 12; ++event) {
      const auto one = static_cast<std::uint32_t>(random.below(count));
      const auto other = static_cast<std::uint32_t>(random.below(count));
      auto& node = cluster.node(one);
      switch (random.below(8)) {
        case 0:
          cluster.kill(one, random.chance(1, 2));
          break;
        case 1:
        case 2:
          if (!node.membership || node.end) cluster.start(one);
          break;
        case 3:
          cluster.pause(one);
          break;
        case 4:
          cluster.resume(one);
          break;
        case 5:
          if (one != other && node.membership && cluster.node(other).membership)
            cluster.split({one}, {other}, random.chance(2, 3));
          break;
        case 6:
          cluster.network.heal_all();
          break;
        default:
          if (node.is_member() && !node.paused) cluster.leave(one);
      }
      cluster.run_for(std::chrono::milliseconds(random.below(9000)));
    }
    cluster.network.heal_all();
    for (std::uint32_t i = 0; i < count; ++i)
      cluster.resume(i);
    cluster.run_for(60s);
    for (std::uint32_t i = 0; i < count; ++i) {
      if (!cluster.node(i).membership || cluster.node(i).end) cluster.start(i);
    }
    expect(cluster, 300s, indexes(0, count));
  });
}

TEST_CASE("a seed gives the same life twice", "[sim]") {
  auto life = [](std::uint64_t seed) {
    SimulatedCluster cluster({.seed = seed, .nodes = 4});
    start_all(cluster);
    cluster.kill(0);
    cluster.run_for(20s);
    std::vector<std::uint64_t> trace{cluster.network.delivered(), cluster.clock.now().time_since_epoch().count() > 0};
    for (const auto& node : cluster.nodes) {
      for (const View& view : node->views)
        trace.push_back(view.number.value * 1000 + view.members.size());
    }
    return trace;
  };
  CHECK(life(3) == life(3));
}
