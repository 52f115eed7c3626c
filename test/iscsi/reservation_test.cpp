// Persistent reservations on a real target, with several initiators.
#include "disk/reservation.h"

#include <algorithm>
#include <vector>

#include "test/iscsi/bench.h"
#include "test/support/tcp_proxy.h"

using namespace corral;
using namespace corral::test;

namespace {
constexpr ReservationKey kFirst(0x1001);
constexpr ReservationKey kSecond(0x2002);
constexpr ReservationKey kThird(0x3003);

/// A target and the initiators of some nodes.
struct Nodes {
  Nodes() {
    for (int i = 0; i < 3; ++i)
      devices.push_back(open_lun(loop, target.url()));
  }
  Reservations& reservations(std::size_t node) { return *devices[node]->reservations(); }
  std::vector<ReservationKey> keys(std::size_t node) {
    auto keys = must(loop, reservations(node).read_keys()).keys;
    std::ranges::sort(keys);
    // tgt lists a key once more for each time that its nexus was connected anew.
    keys.erase(std::ranges::unique(keys).begin(), keys.end());
    return keys;
  }
  int write(std::size_t node) { return code_of(loop, devices[node]->write(0, block.span(), WriteMode::cached)); }
  int read(std::size_t node) { return code_of(loop, devices[node]->read(0, block.span())); }
  void reserve_for_first_two() {
    must(loop, reservations(0).register_and_ignore(kFirst, false));
    must(loop, reservations(1).register_and_ignore(kSecond, false));
    must(loop, reservations(0).reserve(kFirst));
  }

  TgtTarget target;
  EventLoop loop;
  std::vector<std::unique_ptr<IscsiDevice>> devices;
  AlignedBuffer block{4096};
};
}  // namespace

TEST_CASE("registrants write, others only read") {
  NEED_TGT();
  Nodes nodes;
  REQUIRE(nodes.keys(0).empty());
  REQUIRE(must(nodes.loop, nodes.reservations(0).read_reservation()).type == ReservationType::none);
  nodes.reserve_for_first_two();
  REQUIRE(nodes.keys(2) == std::vector{kFirst, kSecond});
  ReservationState state = must(nodes.loop, nodes.reservations(2).read_reservation());
  REQUIRE(state.type == ReservationType::write_exclusive_registrants_only);
  REQUIRE(state.holder == kFirst);
  REQUIRE(nodes.write(0) == 0);
  REQUIRE(nodes.write(1) == 0);
  REQUIRE(nodes.write(2) == EBADE);
  REQUIRE(nodes.read(2) == 0);
  // Once more by the holder is no error; by another it is a conflict.
  must(nodes.loop, nodes.reservations(0).reserve(kFirst));
  REQUIRE(code_of(nodes.loop, nodes.reservations(1).reserve(kSecond)) == EBADE);
  REQUIRE(code_of(nodes.loop, nodes.reservations(2).reserve(kThird)) == EBADE);
}

TEST_CASE("registering, changing and removing a key") {
  NEED_TGT();
  Nodes nodes;
  must(nodes.loop, nodes.reservations(0).register_key({}, kFirst, false));
  std::uint32_t generation = must(nodes.loop, nodes.reservations(0).read_keys()).generation;
  REQUIRE(code_of(nodes.loop, nodes.reservations(0).register_key(kThird, kSecond, false)) == EBADE);
  must(nodes.loop, nodes.reservations(0).register_key(kFirst, kSecond, false));
  REQUIRE(nodes.keys(0) == std::vector{kSecond});
  REQUIRE(must(nodes.loop, nodes.reservations(0).read_keys()).generation > generation);
  must(nodes.loop, nodes.reservations(0).register_and_ignore(kThird, false));
  REQUIRE(nodes.keys(0) == std::vector{kThird});
  must(nodes.loop, nodes.reservations(0).register_key(kThird, {}, false));
  REQUIRE(nodes.keys(0).empty());
}

TEST_CASE("a preempted node is refused, what it has in flight as well as what it sends later") {
  NEED_TGT();
  Nodes nodes;
  nodes.reserve_for_first_two();
  REQUIRE(nodes.write(1) == 0);
  must(nodes.loop, nodes.reservations(0).preempt(kFirst, kSecond));
  REQUIRE(nodes.keys(0) == std::vector{kFirst});
  REQUIRE(nodes.write(1) == EBADE);
  REQUIRE(nodes.read(1) == 0);
  REQUIRE(code_of(nodes.loop, nodes.reservations(1).preempt(kSecond, kFirst)) == EBADE);
  REQUIRE(nodes.write(0) == 0);

  // The holder's key can be preempted too: whoever does it holds the reservation then.
  must(nodes.loop, nodes.reservations(2).register_and_ignore(kThird, false));
  must(nodes.loop, nodes.reservations(2).preempt(kThird, kFirst));
  ReservationState state = must(nodes.loop, nodes.reservations(2).read_reservation());
  REQUIRE(state.type == ReservationType::write_exclusive_registrants_only);
  REQUIRE(state.holder == kThird);
  REQUIRE(nodes.write(0) == EBADE);
  REQUIRE(nodes.write(2) == 0);
}

TEST_CASE("a node whose key was removed does not get it back unawares") {
  NEED_TGT();
  Nodes nodes;
  nodes.reserve_for_first_two();
  must(nodes.loop, nodes.reservations(0).preempt(kFirst, kSecond));
  // The unit attention of the preemption still waits for node 1; its next command finds it.
  REQUIRE(code_of(nodes.loop, nodes.reservations(1).register_and_ignore(kSecond, false)) == EAGAIN);
  REQUIRE(nodes.keys(0) == std::vector{kFirst});
  // Having seen that, it may decide to come again.
  must(nodes.loop, nodes.reservations(1).register_and_ignore(kSecond, false));
  REQUIRE(nodes.write(1) == 0);
}

TEST_CASE("release and clear") {
  NEED_TGT();
  Nodes nodes;
  nodes.reserve_for_first_two();
  SECTION("the holder releases") {
    must(nodes.loop, nodes.reservations(0).release(kFirst));
    REQUIRE(must(nodes.loop, nodes.reservations(0).read_reservation()).type == ReservationType::none);
    REQUIRE(nodes.keys(0) == std::vector{kFirst, kSecond});
  }
  SECTION("another one's release changes nothing") {
    must(nodes.loop, nodes.reservations(1).release(kSecond));
    REQUIRE(must(nodes.loop, nodes.reservations(0).read_reservation()).holder == kFirst);
    return;
  }
  SECTION("anyone who is registered clears") {
    must(nodes.loop, nodes.reservations(1).clear(kSecond));
    REQUIRE(must(nodes.loop, nodes.reservations(0).read_reservation()).type == ReservationType::none);
    REQUIRE(nodes.keys(0).empty());
  }
  SECTION("the holder unregisters") {
    must(nodes.loop, nodes.reservations(0).register_key(kFirst, {}, false));
    REQUIRE(must(nodes.loop, nodes.reservations(1).read_reservation()).type == ReservationType::none);
    REQUIRE(nodes.keys(1) == std::vector{kSecond});
  }
  REQUIRE(nodes.write(2) == 0);
}

TEST_CASE("what the target cannot do is found out") {
  NEED_TGT();
  Nodes nodes;
  nodes.reserve_for_first_two();
  ReservationCapabilities capabilities = must(nodes.loop, nodes.reservations(0).report_capabilities());
  REQUIRE(capabilities.write_exclusive_registrants_only);
  REQUIRE_FALSE(capabilities.persist_through_power_loss);
  REQUIRE(code_of(nodes.loop, nodes.reservations(0).preempt_and_abort(kFirst, kSecond)) == EOPNOTSUPP);
  REQUIRE(nodes.keys(0) == std::vector{kFirst, kSecond});
}

TEST_CASE("more keys than the first look has room for") {
  NEED_TGT();
  Nodes nodes;
  constexpr std::uint64_t kMany = 70;
  std::vector<std::unique_ptr<IscsiDevice>> others;
  for (std::uint64_t i = 1; i <= kMany; ++i) {
    others.push_back(open_lun(nodes.loop, nodes.target.url()));
    must(nodes.loop, others.back()->reservations()->register_and_ignore(ReservationKey(i), false));
  }
  std::vector<ReservationKey> keys = nodes.keys(0);
  REQUIRE(keys.size() == kMany);
  REQUIRE(keys.front() == ReservationKey(1));
  REQUIRE(keys.back() == ReservationKey(kMany));
}

TEST_CASE("a target's restart loses registrations; a reset connection does not") {
  NEED_TGT();
  Nodes nodes;
  TcpProxy proxy(nodes.target.port());
  nodes.devices[1] = open_lun(nodes.loop, nodes.target.url({}, proxy.port()));
  nodes.reserve_for_first_two();
  proxy.cut(true);
  proxy.cut(false);
  // The same I_T nexus comes back, and is still registered.
  REQUIRE(nodes.write(1) == 0);
  REQUIRE(nodes.keys(1) == std::vector{kFirst, kSecond});

  nodes.target.stop();
  nodes.target.start();
  RegisteredKeys keys = must(nodes.loop, nodes.reservations(0).read_keys());
  REQUIRE(keys.keys.empty());
  REQUIRE(must(nodes.loop, nodes.reservations(0).read_reservation()).type == ReservationType::none);
}

TEST_CASE("a logical unit reset: reservations stay, everybody goes on") {
  NEED_TGT();
  Nodes nodes;
  nodes.reserve_for_first_two();
  REQUIRE(nodes.write(1) == 0);
  must(nodes.loop, nodes.reservations(0).reset_logical_unit());
  REQUIRE(nodes.write(0) == 0);
  REQUIRE(nodes.write(1) == 0);
  REQUIRE(nodes.write(2) == EBADE);
  REQUIRE(nodes.keys(2) == std::vector{kFirst, kSecond});
  must(nodes.loop, nodes.devices[0]->flush());
  must(nodes.loop, nodes.devices[1]->flush());
}
