#include <array>
#include <memory>
#include <vector>

#include "base/aligned_buffer.h"
#include "disk/simulated_device.h"
#include "test/support/catch.h"
#include "test/support/manual_clock.h"

using namespace corral;
using namespace std::chrono_literals;

namespace {
constexpr ReservationKey kFirst(0xA1), kSecond(0xB2), kThird(0xC3);

Task<void> keep_result(Task<Result<>> operation, std::optional<Result<>>& out) {
  out.emplace(co_await operation);
}

/// Three nodes on one disk.
struct Cluster {
  explicit Cluster(SimulatedDeviceOptions options = {}) {
    for (std::uint64_t i = 0; i < 3; ++i)
      devices.push_back(std::make_unique<SimulatedDevice>(executor, disk, 10 * i, options));
  }
  Reservations& node(std::size_t i) { return *devices[i]->reservations(); }
  template <class T>
  Result<T> run(Task<Result<T>> task) {
    return run_to_end(clock, executor, std::move(task));
  }
  template <class T>
  int code(Task<Result<T>> task) {
    Result<T> result = run(std::move(task));
    return result ? 0 : result.error().code();
  }
  int write(std::size_t i, int value = 1) {
    std::ranges::fill(block.span(), static_cast<std::byte>(value));
    return code(devices[i]->write(0, block.span(), WriteMode::cached));
  }
  int value() const {
    std::byte byte{};
    disk.contents().read(0, std::span(&byte, 1));
    return static_cast<int>(byte);
  }
  void reserve_for_first_two() {
    REQUIRE(run(node(0).register_and_ignore(kFirst, false)).has_value());
    REQUIRE(run(node(1).register_and_ignore(kSecond, false)).has_value());
    REQUIRE(run(node(0).reserve(kFirst)).has_value());
  }
  std::vector<ReservationKey> keys() { return run(node(0).read_keys())->keys; }

  ManualClock clock;
  Executor executor{clock};
  SimulatedDisk disk{DiskImage(1 << 20)};
  std::vector<std::unique_ptr<SimulatedDevice>> devices;
  AlignedBuffer block{4096};
};
}  // namespace

TEST_CASE("a simulated reservation lets registrants write and the rest read") {
  Cluster cluster;
  REQUIRE(cluster.write(2) == 0);
  cluster.reserve_for_first_two();
  REQUIRE(cluster.write(0) == 0);
  REQUIRE(cluster.write(1) == 0);
  REQUIRE(cluster.write(2) == EBADE);
  REQUIRE(cluster.code(cluster.devices[2]->flush()) == EBADE);
  REQUIRE(cluster.code(cluster.devices[2]->discard(0, 4096)) == EBADE);
  REQUIRE(cluster.code(cluster.devices[2]->read(0, cluster.block.span())) == 0);
  ReservationState state = *cluster.run(cluster.node(2).read_reservation());
  REQUIRE(state.type == ReservationType::write_exclusive_registrants_only);
  REQUIRE(state.holder == kFirst);
}

TEST_CASE("simulated registrations are made, changed and removed under their own keys only") {
  Cluster cluster;
  REQUIRE(cluster.code(cluster.node(0).register_key(kSecond, kFirst, false)) == EBADE);
  REQUIRE(cluster.code(cluster.node(0).register_key({}, kFirst, false)) == 0);
  REQUIRE(cluster.code(cluster.node(0).register_key({}, kFirst, false)) == EBADE);
  REQUIRE(cluster.code(cluster.node(0).register_key(kFirst, kThird, false)) == 0);
  REQUIRE(cluster.keys() == std::vector{kThird});
  REQUIRE(cluster.run(cluster.node(0).read_keys())->generation == 2);
  REQUIRE(cluster.code(cluster.node(0).reserve(kFirst)) == EBADE);
  REQUIRE(cluster.code(cluster.node(0).reserve(kThird)) == 0);
  REQUIRE(cluster.code(cluster.node(0).reserve(kThird)) == 0);
  // RESERVE and RELEASE do not move the generation.
  REQUIRE(cluster.run(cluster.node(0).read_keys())->generation == 2);
  REQUIRE(cluster.code(cluster.node(0).register_key(kThird, {}, false)) == 0);
  REQUIRE(cluster.keys().empty());
  REQUIRE(cluster.run(cluster.node(0).read_reservation())->type == ReservationType::none);
}

TEST_CASE("a simulated reservation is released by its holder alone; the others are told") {
  Cluster cluster;
  cluster.reserve_for_first_two();
  REQUIRE(cluster.code(cluster.node(1).release(kSecond)) == 0);
  REQUIRE(cluster.run(cluster.node(0).read_reservation())->holder == kFirst);
  REQUIRE(cluster.code(cluster.node(2).release(kThird)) == EBADE);
  REQUIRE(cluster.code(cluster.node(0).release(kFirst)) == 0);
  REQUIRE(cluster.write(2) == 0);
  REQUIRE(cluster.code(cluster.node(1).register_and_ignore(kSecond, false)) == EAGAIN);
  REQUIRE(cluster.code(cluster.node(1).register_and_ignore(kSecond, false)) == 0);
}

TEST_CASE("simulated preemption") {
  Cluster cluster;
  cluster.reserve_for_first_two();
  SECTION("of another registrant") {
    REQUIRE(cluster.code(cluster.node(0).preempt(kFirst, kSecond)) == 0);
    REQUIRE(cluster.write(1) == EBADE);
    REQUIRE(cluster.keys() == std::vector{kFirst});
    REQUIRE(cluster.code(cluster.node(0).preempt(kFirst, kSecond)) == EBADE);
  }
  SECTION("of the holder moves the reservation") {
    REQUIRE(cluster.code(cluster.node(1).preempt(kSecond, kFirst)) == 0);
    REQUIRE(cluster.write(0) == EBADE);
    REQUIRE(cluster.write(1) == 0);
    REQUIRE(cluster.run(cluster.node(0).read_reservation())->holder == kSecond);
  }
  SECTION("by one that is not registered is refused") {
    REQUIRE(cluster.code(cluster.node(2).preempt(kThird, kFirst)) == EBADE);
    REQUIRE(cluster.keys().size() == 2);
  }
  SECTION("of two by each other: one wins") {
    REQUIRE(cluster.code(cluster.node(1).preempt(kSecond, kFirst)) == 0);
    REQUIRE(cluster.code(cluster.node(0).preempt(kFirst, kSecond)) == EBADE);
    REQUIRE(cluster.keys() == std::vector{kSecond});
  }
  SECTION("of one's own key by the holder keeps the registration") {
    REQUIRE(cluster.code(cluster.node(0).preempt(kFirst, kFirst)) == 0);
    REQUIRE(cluster.keys() == std::vector{kFirst, kSecond});
  }
  SECTION("where the disk cannot abort") {
    cluster.disk.reservations().set_features({.preempt_and_abort = false});
    REQUIRE(cluster.code(cluster.node(0).preempt_and_abort(kFirst, kSecond)) == EOPNOTSUPP);
    REQUIRE(cluster.write(1) == 0);
  }
}

TEST_CASE("a write that arrives after its node was preempted is refused, however old it is") {
  Cluster cluster;
  cluster.reserve_for_first_two();
  auto fault = cluster.devices[1]->add_fault({.effect = SimulatedFault::Effect::stuck});
  std::optional<Result<>> written;
  std::ranges::fill(cluster.block.span(), std::byte{7});
  Scope scope(cluster.executor);
  scope.spawn(
      keep_result(cluster.devices[1]->write(0, std::as_const(cluster.block).span(), WriteMode::cached), written));
  cluster.clock.run_until_idle(cluster.executor);
  REQUIRE(cluster.code(cluster.node(0).preempt(kFirst, kSecond)) == 0);
  cluster.devices[1]->remove_fault(fault);
  cluster.clock.run_until_idle(cluster.executor);
  REQUIRE(written.has_value());
  REQUIRE_FALSE(written->has_value());
  REQUIRE(written->error().code() == EBADE);
  REQUIRE(cluster.value() == 0);
}

TEST_CASE("a write that the disk has accepted lands after a preemption, unless that aborts it") {
  Cluster cluster;
  cluster.reserve_for_first_two();
  auto fault = cluster.devices[1]->add_fault({.effect = SimulatedFault::Effect::lingering});
  std::optional<Result<>> written;
  std::ranges::fill(cluster.block.span(), std::byte{7});
  Scope scope(cluster.executor);
  scope.spawn(
      keep_result(cluster.devices[1]->write(0, std::as_const(cluster.block).span(), WriteMode::cached), written));
  cluster.clock.run_until_idle(cluster.executor);
  SECTION("PREEMPT lets it go on") {
    REQUIRE(cluster.code(cluster.node(0).preempt(kFirst, kSecond)) == 0);
    cluster.devices[1]->remove_fault(fault);
    cluster.clock.run_until_idle(cluster.executor);
    REQUIRE(written->has_value());
    REQUIRE(cluster.value() == 7);
  }
  SECTION("PREEMPT AND ABORT ends it: nothing lands later") {
    REQUIRE(cluster.code(cluster.node(0).preempt_and_abort(kFirst, kSecond)) == 0);
    DiskImage then = cluster.disk.contents();
    cluster.devices[1]->remove_fault(fault);
    cluster.clock.run_until_idle(cluster.executor);
    REQUIRE(written->error().code() == EBADE);
    REQUIRE(cluster.disk.contents() == then);
  }
  SECTION("PREEMPT and LOGICAL UNIT RESET do the same") {
    REQUIRE(cluster.code(cluster.node(0).preempt(kFirst, kSecond)) == 0);
    REQUIRE(cluster.code(cluster.node(0).reset_logical_unit()) == 0);
    DiskImage then = cluster.disk.contents();
    cluster.devices[1]->remove_fault(fault);
    cluster.clock.run_until_idle(cluster.executor);
    REQUIRE(written->error().code() == EBADE);
    REQUIRE(cluster.disk.contents() == then);
  }
  SECTION("LOGICAL UNIT RESET alone: it is sent again") {
    REQUIRE(cluster.code(cluster.node(0).reset_logical_unit()) == 0);
    cluster.devices[1]->remove_fault(fault);
    cluster.clock.run_until_idle(cluster.executor);
    REQUIRE(written->has_value());
    REQUIRE(cluster.value() == 7);
  }
}

TEST_CASE("a power cut loses simulated registrations that were not to persist") {
  bool persist = GENERATE(false, true);
  Cluster cluster;
  REQUIRE(cluster.code(cluster.node(0).register_and_ignore(kFirst, persist)) == 0);
  REQUIRE(cluster.code(cluster.node(0).reserve(kFirst)) == 0);
  cluster.disk.power_cut(PowerCut::Unstable::landed, 1);
  REQUIRE(cluster.run(cluster.node(0).read_keys())->generation == 0);
  REQUIRE(cluster.keys().size() == (persist ? 1 : 0));
  REQUIRE(cluster.write(1) == (persist ? EBADE : 0));

  cluster.disk.reservations().set_features({.persist_through_power_loss = false});
  REQUIRE(cluster.code(cluster.node(1).register_and_ignore(kSecond, true)) == EOPNOTSUPP);
}

TEST_CASE("a change of reservations whose sender dies may have been made, or not") {
  int made = 0;
  constexpr int kRuns = 40;
  for (std::uint64_t seed = 0; seed < kRuns; ++seed) {
    Cluster cluster(SimulatedDeviceOptions::realistic());
    SimulatedDevice survivor(cluster.executor, cluster.disk, 1);
    auto mortal =
        std::make_unique<SimulatedDevice>(cluster.executor, cluster.disk, seed, SimulatedDeviceOptions::realistic());
    std::optional<Result<>> registered;
    {
      Scope scope(cluster.executor);
      scope.spawn(keep_result(mortal->reservations()->register_and_ignore(kFirst, false), registered));
    }
    mortal.reset();
    made += run_to_end(cluster.clock, cluster.executor, survivor.reservations()->read_keys())->keys.size() == 1;
    REQUIRE_FALSE(registered.has_value());
  }
  REQUIRE(made > 0);
  REQUIRE(made < kRuns);
}

TEST_CASE("a registration that the disk no longer ascribes to its nexus is made again, a removed one is not") {
  Cluster cluster;
  cluster.reserve_for_first_two();
  SECTION("still known: nothing is added") {
    REQUIRE(cluster.code(restore_registration(cluster.node(1), kSecond, false)) == 0);
    REQUIRE(cluster.keys() == std::vector{kFirst, kSecond});
  }
  SECTION("listed, but of a nexus that is no more") {
    SimulatedDevice anew(cluster.executor, cluster.disk, 5);
    REQUIRE(cluster.code(restore_registration(*anew.reservations(), kSecond, false)) == 0);
    REQUIRE(cluster.keys() == std::vector{kFirst, kSecond, kSecond});
    REQUIRE(cluster.code(anew.write(0, std::as_const(cluster.block).span(), WriteMode::cached)) == 0);
    // Fencing removes both.
    REQUIRE(cluster.code(cluster.node(0).preempt(kFirst, kSecond)) == 0);
    REQUIRE(cluster.code(anew.write(0, std::as_const(cluster.block).span(), WriteMode::cached)) == EBADE);
  }
  SECTION("removed") {
    REQUIRE(cluster.code(cluster.node(0).preempt(kFirst, kSecond)) == 0);
    REQUIRE(cluster.code(restore_registration(cluster.node(1), kSecond, false)) == 0);
    REQUIRE(cluster.keys() == std::vector{kFirst});
    REQUIRE(cluster.write(1) == EBADE);
  }
}

TEST_CASE("no moment of a preemption lets a registration be made again behind its back") {
  // The preemption comes at any moment of the restoring; afterwards the key is gone for good.
  for (int microseconds = 0; microseconds < 12000; microseconds += 100) {
    Cluster cluster;
    cluster.reserve_for_first_two();
    SimulatedDevice anew(cluster.executor, cluster.disk, 5, {.reservation_latency = {.least = 1ms, .most = 2ms}});
    std::optional<Result<>> restored;
    Scope scope(cluster.executor);
    scope.spawn(keep_result(restore_registration(*anew.reservations(), kSecond, false), restored));
    Time moment = cluster.clock.now() + std::chrono::microseconds(microseconds);
    cluster.clock.run_until(cluster.executor, [&] {
      auto next = cluster.executor.next_timer();
      return !cluster.executor.has_ready() && (!next || *next > moment);
    });
    REQUIRE(cluster.code(cluster.node(0).preempt(kFirst, kSecond)) == 0);
    cluster.clock.run_until_idle(cluster.executor);
    REQUIRE(restored.has_value());
    INFO("preempted after " << microseconds << " us");
    REQUIRE(cluster.keys() == std::vector{kFirst});
  }
}
