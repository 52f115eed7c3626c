// The dead are kept from writing, whoever dies or leaves meanwhile, on disks of different abilities.
#include <algorithm>
#include <memory>
#include <vector>

#include "base/aligned_buffer.h"
#include "disk/simulated_device.h"
#include "fence/fencing.h"
#include "test/support/catch.h"
#include "test/support/manual_clock.h"
#include "test/support/must.h"
#include "test/support/no_programs.h"

using namespace corral;
using namespace corral::test;
using namespace std::chrono_literals;

namespace {

constexpr cluster::Uuid kCluster{1, 2, 3};
constexpr Member kMembers[] = {
    {NodeId(0), Incarnation(10)}, {NodeId(1), Incarnation(11)}, {NodeId(2), Incarnation(12)}};

/// Three nodes on one disk.
struct Nodes {
  explicit Nodes(ReservationTable::Features features = {}) {
    disk.reservations().set_features(features);
    SimulatedDeviceOptions options;
    options.write_latency = {.least = 10ms, .most = 10ms};
    for (std::uint64_t i = 0; i < 3; ++i) {
      devices.push_back(std::make_unique<SimulatedDevice>(executor, disk, i + 1, options));
      gates.push_back(std::make_unique<WriteGate>(executor, *devices[i]));
      cluster::Header header;
      header.cluster = kCluster;
      fencers.push_back(must(run(choose_fencer(
          {executor, cluster::ClusterArea(*devices[i], 0), *gates[i], programs, fmt::format("node-{}", i), Logger(log)},
          header))));
    }
  }
  template <class T>
  T run(Task<T> task) {
    return run_to_end(clock, executor, std::move(task));
  }
  void admit(std::size_t node) { must(run(fencers[node]->admit(kMembers[node]))); }
  int write(std::size_t node) {
    Result<> done = run(devices[node]->write(0, block.span(), WriteMode::cached));
    return done ? 0 : done.error().code();
  }
  int fence(std::size_t by, std::size_t victim) {
    Result<> done = run(fencers[by]->fence(kMembers[victim]));
    return done ? 0 : done.error().code();
  }
  std::uint64_t key(std::size_t node) const { return fencers[node]->key_of(kMembers[node]); }
  Result<> maintain(std::size_t node, std::vector<std::uint64_t> members, std::vector<std::uint64_t> others = {}) {
    return run(fencers[node]->maintain({std::move(members), std::move(others), [this] { return certain; }}));
  }
  ReservationState reservation() { return disk.reservations().reservation(); }
  bool registered(std::size_t node) { return disk.reservations().keys().contains(ReservationKey(key(node))); }

  ManualClock clock;
  Executor executor{clock};
  NullLogSink log;
  NoPrograms programs;
  SimulatedDisk disk{DiskImage(1 << 20)};
  std::vector<std::unique_ptr<SimulatedDevice>> devices;
  std::vector<std::unique_ptr<WriteGate>> gates;
  std::vector<std::unique_ptr<cluster::Fencer>> fencers;
  bool certain = true;  ///< of their membership, the nodes are
  AlignedBuffer block{4096};
};

}  // namespace

TEST_CASE("every life and every way of fencing has a key of its own") {
  std::vector<std::uint64_t> keys;
  for (std::uint32_t node = 0; node < kNodesMax; ++node) {
    for (std::uint64_t life = 1; life < 50; ++life) {
      for (FencingWay way : {FencingWay::reservations, FencingWay::life_locks, FencingWay::agent, FencingWay::manual}) {
        keys.push_back(fencing_key(kCluster, {NodeId(node), Incarnation(life)}, way));
        CHECK((keys.back() & 0x7F) == node + 1);
        CHECK(cluster::way_of_key(keys.back()) == way);
      }
    }
  }
  keys.push_back(fencing_key({}, {NodeId(0), Incarnation(1)}, FencingWay::reservations));
  std::ranges::sort(keys);
  CHECK(std::ranges::adjacent_find(keys) == keys.end());
}

TEST_CASE("a fenced node writes nothing, with and without PREEMPT AND ABORT") {
  for (const bool abort : {true, false}) {
    for (const bool reset : {true, false}) {
      INFO("abort " << abort << " reset " << reset);
      Nodes nodes({.preempt_and_abort = abort, .logical_unit_reset = reset});
      for (std::size_t i = 0; i < 3; ++i)
        nodes.admit(i);
      REQUIRE(nodes.write(1) == 0);
      // One of its writes is on its way into the disk when it is fenced: it has ended, one way or the other, before the
      // fencing has.
      std::optional<Result<>> late;
      Scope scope(nodes.executor);
      auto write = [](Nodes& all, std::optional<Result<>>& out) -> Task<void> {
        out = co_await all.devices[1]->write(4096, all.block.span(), WriteMode::cached);
      };
      const std::uint64_t stuck = nodes.devices[1]->add_fault(
          {.effect = SimulatedFault::Effect::lingering, .operations = SimulatedFault::writes, .begin_bytes = 4096});
      scope.spawn(write(nodes, late));
      REQUIRE(nodes.fence(0, 1) == 0);
      CHECK(nodes.write(1) == EBADE);
      CHECK_FALSE(nodes.registered(1));
      nodes.devices[1]->remove_fault(stuck);
      if (abort || reset) {
        nodes.clock.run_until_idle(nodes.executor);
        REQUIRE(late.has_value());
        CHECK((!*late && late->error().code() == EBADE));
      }
      CHECK(nodes.write(0) == 0);
      CHECK(nodes.write(2) == 0);
      // Again: nothing is left to do.
      CHECK(nodes.fence(2, 1) == 0);
      // The next life of the node is let in.
      must(nodes.run(nodes.fencers[1]->admit({NodeId(1), Incarnation(99)})));
      CHECK(nodes.write(1) == 0);
    }
  }
}

TEST_CASE("who was fenced can fence nobody") {
  Nodes nodes;
  for (std::size_t i = 0; i < 3; ++i)
    nodes.admit(i);
  REQUIRE(nodes.fence(0, 1) == 0);
  CHECK(nodes.fence(1, 0) == EBADE);
  CHECK(nodes.maintain(1, {nodes.key(0), nodes.key(1)}).error().code() == EBADE);
  CHECK(nodes.registered(0));
  CHECK(nodes.write(0) == 0);
}

TEST_CASE("the reservation outlives the node that made it") {
  for (const bool dies : {true, false}) {
    INFO("dies " << dies);
    Nodes nodes;
    for (std::size_t i = 0; i < 3; ++i)
      nodes.admit(i);
    REQUIRE(nodes.fence(1, 2) == 0);
    REQUIRE(nodes.reservation().holder == ReservationKey(nodes.key(0)));
    if (dies) {
      REQUIRE(nodes.fence(1, 0) == 0);
    } else {
      must(nodes.run(nodes.fencers[0]->leave(false)));
      // Not for a moment may the fenced one write.
      CHECK(nodes.reservation().type == ReservationType::write_exclusive_registrants_only);
      CHECK(nodes.write(2) == EBADE);
      must(nodes.maintain(1, {nodes.key(1)}));
    }
    CHECK(nodes.reservation().holder == ReservationKey(nodes.key(1)));
    CHECK_FALSE(nodes.registered(0));
    CHECK(nodes.write(0) == EBADE);
    CHECK(nodes.write(2) == EBADE);
    CHECK(nodes.write(1) == 0);
    must(nodes.run(nodes.fencers[1]->leave(false)));
    CHECK(nodes.reservation().type == ReservationType::none);
    CHECK(nodes.disk.reservations().keys().keys.empty());
  }
}

TEST_CASE("where a fenced life may still write the reservation outlasts the last one to leave") {
  for (const std::size_t holder : {0u, 1u}) {
    INFO("holder " << holder);
    Nodes nodes;
    const std::size_t other = 1 - holder;
    nodes.admit(holder);
    nodes.admit(other);
    nodes.admit(2);
    REQUIRE(nodes.reservation().holder == ReservationKey(nodes.key(holder)));
    REQUIRE(nodes.fence(other, 2) == 0);
    must(nodes.run(nodes.fencers[holder]->leave(false)));
    must(nodes.run(nodes.fencers[other]->leave_in_force()));
    CHECK(nodes.reservation().type == ReservationType::write_exclusive_registrants_only);
    CHECK(nodes.write(2) == EBADE);
    // The next one takes it over, and can end it.
    nodes.admit(1);
    must(nodes.maintain(1, {nodes.key(1)}));
    CHECK(nodes.reservation().holder == ReservationKey(nodes.key(1)));
    must(nodes.run(nodes.fencers[1]->leave(true)));
    CHECK(nodes.reservation().type == ReservationType::none);
    CHECK(nodes.disk.reservations().keys().keys.empty());
  }
}

TEST_CASE("when all leave at once the reservation ends, in whichever order they come to it") {
  for (const bool holder_first : {true, false}) {
    for (const bool both_find_themselves_last : {true, false}) {
      INFO("holder first " << holder_first << ", both last " << both_find_themselves_last);
      Nodes nodes;
      nodes.admit(0);
      nodes.admit(1);
      REQUIRE(nodes.reservation().holder == ReservationKey(nodes.key(0)));
      const std::size_t first = holder_first ? 0 : 1;
      must(nodes.run(nodes.fencers[first]->leave(both_find_themselves_last)));
      must(nodes.run(nodes.fencers[1 - first]->leave(true)));
      CHECK(nodes.reservation().type == ReservationType::none);
      CHECK(nodes.disk.reservations().keys().keys.empty());
    }
  }
}

TEST_CASE("a joiner that holds the reservation keeps it") {
  Nodes nodes;
  nodes.admit(0);
  nodes.admit(1);
  must(nodes.maintain(1, {nodes.key(1)}, {nodes.key(0)}));
  CHECK(nodes.registered(0));
  CHECK(nodes.reservation().holder == ReservationKey(nodes.key(0)));
}

TEST_CASE("registrations that the disk has lost are made anew") {
  Nodes nodes({.persist_through_power_loss = false});
  nodes.admit(0);
  nodes.admit(1);
  nodes.disk.power_cut(PowerCut::Unstable::lost, 1);
  REQUIRE_FALSE(nodes.registered(0));
  const std::vector<std::uint64_t> members{nodes.key(0), nodes.key(1)};
  must(nodes.maintain(0, members));
  CHECK(nodes.registered(0));
  CHECK(nodes.reservation().type == ReservationType::none);  // the other would be shut out
  must(nodes.maintain(1, members));
  CHECK(nodes.reservation().type == ReservationType::write_exclusive_registrants_only);
  CHECK(nodes.write(0) == 0);
  CHECK(nodes.write(1) == 0);
}

TEST_CASE("that a node is fenced holds until the disk forgets it") {
  Nodes nodes({.persist_through_power_loss = false});
  nodes.admit(0);
  nodes.admit(1);
  const auto verify = [&] {
    const Result<> done = nodes.run(nodes.fencers[0]->verify(kMembers[1]));
    return done ? 0 : done.error().code();
  };
  CHECK(verify() == EAGAIN);
  REQUIRE(nodes.fence(0, 1) == 0);
  CHECK(verify() == 0);
  nodes.disk.power_cut(PowerCut::Unstable::lost, 1);
  CHECK(verify() == EBADE);
  must(nodes.maintain(0, {nodes.key(0), nodes.key(1)}));
  CHECK(verify() == EAGAIN);  // no reservation yet: the other member is waited for
  must(nodes.maintain(0, {nodes.key(0)}));
  CHECK(verify() == 0);
}

TEST_CASE("a registration made anew when others may have fenced the node is taken back") {
  Nodes nodes({.persist_through_power_loss = false});
  nodes.admit(0);
  nodes.admit(1);
  nodes.disk.power_cut(PowerCut::Unstable::lost, 1);
  SECTION("it was known before") {
    nodes.certain = false;
    CHECK(nodes.maintain(0, {nodes.key(0), nodes.key(1)}).error().code() == EBADE);
  }
  SECTION("it became so while the command was under way") {
    const std::uint64_t stuck = nodes.devices[0]->add_fault({.effect = SimulatedFault::Effect::stuck,
                                                             .operations = SimulatedFault::reservations,
                                                             .skip = 3});  // what it reads before
    Scope scope(nodes.executor);
    auto lose_it = [&]() -> Task<void> {
      co_await nodes.executor.sleep_for(60s);
      nodes.certain = false;
      nodes.devices[0]->remove_fault(stuck);
    };
    scope.spawn(lose_it());
    CHECK(nodes.maintain(0, {nodes.key(0), nodes.key(1)}).error().code() == EBADE);
    CHECK_FALSE(nodes.certain);
    nodes.clock.run_until_idle(nodes.executor);
  }
  CHECK_FALSE(nodes.registered(0));
}

TEST_CASE("nothing of a node is on its way when it registers anew") {
  Nodes nodes({.persist_through_power_loss = false});
  nodes.admit(0);
  nodes.admit(1);
  nodes.disk.power_cut(PowerCut::Unstable::lost, 1);
  const std::uint64_t stuck = nodes.devices[0]->add_fault(
      {.effect = SimulatedFault::Effect::stuck, .operations = SimulatedFault::writes, .times = 1});
  Scope scope(nodes.executor);
  std::optional<bool> registered_when_written;
  auto write = [&]() -> Task<void> {
    must(co_await nodes.gates[0]->write(0, nodes.block.span(), WriteMode::cached));
    registered_when_written = nodes.registered(0);
  };
  auto maintain = [&]() -> Task<void> {
    must(co_await nodes.fencers[0]->maintain({{nodes.key(0), nodes.key(1)}, {}, [] { return true; }}));
  };
  scope.spawn(write());
  scope.spawn(maintain());
  nodes.clock.run_until_idle(nodes.executor);
  CHECK_FALSE(nodes.registered(0));
  nodes.devices[0]->remove_fault(stuck);
  nodes.clock.run_until_idle(nodes.executor);
  CHECK(registered_when_written == false);
  CHECK(nodes.registered(0));
  CHECK(scope.running() == 0);
}

TEST_CASE("somebody else's reservation is left alone") {
  Nodes nodes;
  must(nodes.run(nodes.devices[2]->reservations()->register_and_ignore(ReservationKey(7), false)));
  must(nodes.run(nodes.devices[2]->reservations()->reserve(ReservationKey(7))));
  // Type 5 is what nodes make too: it is joined, and taken over from a key that is nobody's.
  nodes.admit(0);
  must(nodes.maintain(0, {nodes.key(0)}));
  CHECK(nodes.reservation().holder == ReservationKey(nodes.key(0)));
}
