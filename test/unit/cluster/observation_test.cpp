#include "cluster/observation.h"

#include "disk/reservation.h"
#include "test/support/catch.h"
#include "test/support/must.h"
#include "test/support/simulated_cluster.h"

using namespace corral;
using namespace corral::test;
using cluster::NodeState;
using cluster::Observation;
using cluster::SoleUse;

namespace {

/// Somebody beside the cluster who reads its disk.
struct Bystander {
  explicit Bystander(SimulatedCluster& of) : cluster(of), device(of.world, of.disk, 99), scope(of.world) {}

  template <class T>
  Result<T> finish(Task<Result<T>> task) {
    std::optional<Result<T>> result;
    auto runner = [](Task<Result<T>> inner, std::optional<Result<T>>& out) -> Task<void> {
      out.emplace(co_await inner);
    };
    scope.spawn(runner(std::move(task), result));
    const Time began = cluster.clock.now();
    REQUIRE(cluster.run_until(60s, [&] { return result.has_value(); }));
    took = cluster.clock.now() - began;
    return *std::move(result);
  }
  Observation look() {
    cluster::Observer observer(cluster.world, cluster::ClusterArea(device, 0));
    return must(finish(observer.look()));
  }
  Result<> sole_use(SoleUse use) {
    return finish(cluster::check_no_node_lives(cluster.world, cluster::ClusterArea(device, 0), use));
  }

  SimulatedCluster& cluster;
  SimulatedDevice device;
  Duration took{};
  Scope scope;
};

NodeState state_of(const Observation& seen, const SimulatedCluster::Node& node) {
  for (const cluster::ObservedNode& one : seen.nodes) {
    if (one.slot.name == node.name) return one.state;
  }
  return NodeState::offline;
}

void start_all(SimulatedCluster& cluster) {
  std::vector<std::uint32_t> members;
  for (std::uint32_t i = 0; i < cluster.options.nodes; ++i) {
    cluster.start(i);
    members.push_back(i);
  }
  REQUIRE(cluster.run_until(60s, [&] { return cluster.agreed(members); }));
}

}  // namespace

TEST_CASE("who is alive is seen within two heartbeats, with votes as operators know them") {
  SimulatedCluster cluster({.seed = 3, .nodes = 5, .journals = 5});
  Bystander bystander(cluster);
  CHECK(bystander.look().nodes.empty());
  CHECK(bystander.took < 100ms);
  must(bystander.sole_use(SoleUse::writing));
  start_all(cluster);
  const Observation seen = bystander.look();
  const cluster::Timing timing = cluster::Timing::of(seen.header.settings);
  CHECK(bystander.took <= 3 * timing.heartbeat_interval);
  REQUIRE(seen.nodes.size() == 5);
  for (const auto& node : cluster.nodes)
    CHECK(state_of(seen, *node) == NodeState::online);
  CHECK(seen.leader == NodeId(0));
  CHECK(seen.votes.nodes == 5);
  CHECK(seen.votes.disk == 4);
  CHECK(seen.votes.expected == 9);
  CHECK(seen.votes.total() == 9);
  CHECK(seen.votes.quorum == 5);
  const auto refused = bystander.sole_use(SoleUse::reading);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code() == EBUSY);
  for (const auto& node : cluster.nodes)
    CHECK(refused.error().message().find("node " + node->name) != std::string::npos);
}

TEST_CASE("a node that died and was recovered is offline, one that left is too, one alone goes on") {
  SimulatedCluster cluster({.seed = 4, .nodes = 3});
  Bystander bystander(cluster);
  start_all(cluster);
  cluster.kill(0, true);
  cluster.leave(1);
  REQUIRE(cluster.run_until(120s, [&] { return cluster.agreed({2}); }));
  cluster.run_for(10s);
  const Observation seen = bystander.look();
  CHECK(state_of(seen, cluster.node(0)) == NodeState::offline);
  CHECK(state_of(seen, cluster.node(1)) == NodeState::offline);
  CHECK(state_of(seen, cluster.node(2)) == NodeState::online);
  REQUIRE(seen.leader);
  CHECK(seen.find(*seen.leader)->slot.name == cluster.node(2).name);
  CHECK(seen.votes.quorate());
}

TEST_CASE("where all have died nobody is alive, and all are to be recovered") {
  SimulatedCluster cluster({.seed = 5, .nodes = 3});
  Bystander bystander(cluster);
  start_all(cluster);
  for (std::uint32_t i = 0; i < 3; ++i)
    cluster.kill(i, true);
  const Observation seen = bystander.look();
  CHECK(bystander.took < 10s);
  CHECK_FALSE(seen.anybody_alive());
  CHECK_FALSE(seen.leader);
  CHECK(seen.votes.total() == 0);
  for (const auto& node : cluster.nodes)
    CHECK(state_of(seen, *node) == NodeState::not_recovered);
  must(bystander.sole_use(SoleUse::writing));
}

TEST_CASE("of a bad slot it is told, and the others are seen") {
  SimulatedCluster cluster({.seed = 6, .nodes = 2});
  Bystander bystander(cluster);
  start_all(cluster);
  AlignedBuffer bad(512);
  bad.span()[0] = std::byte{0xFF};
  must(bystander.finish(bystander.device.write((cluster::kFirstSlotRecord + 7) * cluster::kRecordBytes, bad.span(),
                                               WriteMode::write_through)));
  const Observation seen = bystander.look();
  CHECK(seen.nodes.size() == 2);
  REQUIRE(seen.problems.size() == 1);
  CHECK(seen.problems[0].find("slot 7") != std::string::npos);
}

TEST_CASE("a silent node that the disk still lets write is in the way of who writes, and of nobody who reads") {
  ManualClock clock;
  Executor executor(clock);
  SimulatedDisk disk{DiskImage(cluster::kAreaBytes)};
  SimulatedDevice hung(executor, disk, 1);
  SimulatedDevice device(executor, disk, 2);
  const cluster::ClusterArea area(device, 0);
  const cluster::Header header{.cluster = {7}};
  const AlignedBuffer contents = cluster::ClusterArea::new_contents(header);
  must(run_to_end(clock, executor, device.write(0, contents.span(), WriteMode::cached)));
  const ReservationKey key(0x77);
  must(run_to_end(clock, executor,
                  area.write_slot({.id = NodeId(1),
                                   .cluster = header.cluster,
                                   .state = cluster::SlotState::member,
                                   .incarnation = Incarnation(3),
                                   .key = key.value,
                                   .name = "beta"})));
  must(run_to_end(clock, executor, hung.reservations()->register_key(ReservationKey(), key, false)));
  must(run_to_end(clock, executor, cluster::check_no_node_lives(executor, area, SoleUse::reading)));
  const auto refused = run_to_end(clock, executor, cluster::check_no_node_lives(executor, area, SoleUse::writing));
  REQUIRE_FALSE(refused);
  CHECK(refused.error().message().find("node beta (slot 1, not recovered, but the disk still lets it write)") !=
        std::string::npos);
  must(run_to_end(clock, executor, hung.reservations()->register_key(key, ReservationKey(), false)));
  must(run_to_end(clock, executor, cluster::check_no_node_lives(executor, area, SoleUse::writing)));
}
