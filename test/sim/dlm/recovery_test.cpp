// Changes of view, step by step: what the dead may have written stays locked until their journal is replayed,
// everything else goes on; no lock is lost, none granted twice.
#include "test/sim/dlm/support.h"

using namespace corral;
using namespace corral::dlm;
using namespace corral::dlm::test;
using namespace std::chrono_literals;

namespace {

using OwnedLock = std::unique_ptr<Lock>;

OwnedLock make_lock(Cluster& cluster, std::uint32_t node, const ResourceName& name) {
  return std::make_unique<Lock>(cluster.node(node).manager, name, nullptr);
}

/// The node dies with its lock (nothing of the lock's end leaves the node), and the others get a view without it.
Member die(Cluster& cluster, std::uint32_t number, OwnedLock& lock) {
  const Member dead = cluster.node(number).member;
  lock.reset();
  cluster.kill(number);
  cluster.change_view();
  return dead;
}

void replay(Cluster& cluster, Member dead) {
  cluster.announce_recovered(dead);
  cluster.run_for(10ms);
}

}  // namespace

TEST_CASE("what a dead node held CW, PW or EX stays locked until its journal is replayed; PR, CR and NL do not") {
  const Mode held = GENERATE(Mode::null, Mode::concurrent_read, Mode::concurrent_write, Mode::protected_read,
                             Mode::protected_write, Mode::exclusive);
  Cluster cluster(1);
  cluster.start_all(3);
  const ResourceName name = name_kept_by(cluster.node(0), NodeId(2));
  auto master = make_lock(cluster, 0, name);
  REQUIRE(acquire(cluster, *master, Mode::null) == 0);
  auto victim = make_lock(cluster, 1, name);
  REQUIRE(acquire(cluster, *victim, held) == 0);
  const Member dead = die(cluster, 1, victim);
  auto other = make_lock(cluster, 2, name);
  CHECK(acquire(cluster, *other, Mode::null) == 0);
  CHECK(acquire(cluster, *other, Mode::protected_read, {.no_queue = true}) == (writes(held) ? EAGAIN : 0));
  CHECK(acquire(cluster, *other, Mode::exclusive, {.during_recovery = true}) == 0);
  CHECK(acquire(cluster, *other, Mode::null) == 0);
  Ended ended;
  cluster.node(0).users.spawn(acquire_into(*master, Mode::exclusive, {}, {}, ended));
  cluster.run_for(1s);
  CHECK(ended.has_value() == !writes(held));
  if (writes(held))
    CHECK(cluster.node(0).manager.dump().text().find("until the journal of node 1") != std::string::npos);
  replay(cluster, dead);
  CHECK(ended == 0);
  const bool spoilt = held == Mode::protected_write || held == Mode::exclusive;
  CHECK(master->value().valid == !spoilt);
  CHECK(cluster.faults() == 0);
}

TEST_CASE("the master dies: holders find a new one and keep what they have") {
  const Mode held = GENERATE(Mode::null, Mode::concurrent_read, Mode::protected_read, Mode::exclusive);
  Cluster cluster(2);
  cluster.start_all(4);
  const ResourceName name = name_kept_by(cluster.node(0), NodeId(3));
  auto master = make_lock(cluster, 0, name);
  REQUIRE(acquire(cluster, *master, Mode::exclusive) == 0);
  REQUIRE(acquire(cluster, *master, Mode::null, {.value = true}, value_of(3)) == 0);
  auto survivor = make_lock(cluster, 1, name);
  REQUIRE(acquire(cluster, *survivor, held) == 0);
  auto reader = make_lock(cluster, 2, name);
  REQUIRE(acquire(cluster, *reader, Mode::null) == 0);
  const Member dead = die(cluster, 0, master);
  CHECK(survivor->granted() == held);
  // A survivor that kept all writers out vouches for the rest, and for the value.
  const bool vouches = held == Mode::protected_read || held == Mode::exclusive;
  Ended ended;
  cluster.node(2).users.spawn(acquire_into(*reader, Mode::protected_read, {}, {}, ended));
  cluster.run_for(1s);
  CHECK(ended.has_value() == (held == Mode::protected_read));
  REQUIRE(acquire(cluster, *survivor, Mode::null) == 0);
  cluster.run_for(1s);
  CHECK(ended.has_value() == vouches);
  replay(cluster, dead);
  REQUIRE(ended == 0);
  CHECK(reader->value().valid == vouches);
  CHECK(reader->value().bytes == value_of(3));
  CHECK(cluster.faults() == 0);
}

TEST_CASE("a resource that nobody living knows waits for the replay; one whose master lives does not") {
  Cluster cluster(3);
  cluster.start_all(3);
  const ResourceName known = name_kept_by(cluster.node(0), NodeId(0));
  const ResourceName unknown = name_kept_by(cluster.node(0), NodeId(0), 1);
  auto kept = make_lock(cluster, 0, known);
  REQUIRE(acquire(cluster, *kept, Mode::exclusive) == 0);
  auto victim = make_lock(cluster, 2, unknown);
  REQUIRE(acquire(cluster, *victim, Mode::exclusive) == 0);
  const Member dead = die(cluster, 2, victim);
  // Locks of living masters go on.
  REQUIRE(acquire(cluster, *kept, Mode::null) == 0);
  auto other = make_lock(cluster, 1, known);
  CHECK(acquire(cluster, *other, Mode::exclusive) == 0);
  auto waiting = make_lock(cluster, 1, unknown);
  CHECK(acquire(cluster, *waiting, Mode::protected_read, {.no_queue = true}) == EAGAIN);
  replay(cluster, dead);
  CHECK(acquire(cluster, *waiting, Mode::protected_read, {.no_queue = true}) == 0);
  CHECK(!waiting->value().valid);
}

TEST_CASE("a joiner is told by the view who has to be replayed") {
  Cluster cluster(4);
  cluster.start_all(2);
  const ResourceName name = name_kept_by(cluster.node(0), NodeId(1));
  auto victim = make_lock(cluster, 1, name);
  REQUIRE(acquire(cluster, *victim, Mode::exclusive) == 0);
  const Member dead = die(cluster, 1, victim);
  cluster.start(2);
  cluster.change_view();
  // The only one who knew of the death goes too, in order.
  cluster.kill(0, false, true);
  cluster.change_view();
  auto newcomer = make_lock(cluster, 2, name);
  CHECK(acquire(cluster, *newcomer, Mode::exclusive, {.no_queue = true}) == EAGAIN);
  replay(cluster, dead);
  CHECK(acquire(cluster, *newcomer, Mode::exclusive, {.no_queue = true}) == 0);
}

TEST_CASE("who leaves in order leaves nothing locked, and the directory is spread anew") {
  Cluster cluster(5);
  cluster.start_all(3);
  std::vector<OwnedLock> locks;
  for (int i = 0; i < 60; ++i) {
    const ResourceName name(LockspaceId(1), fmt::format("r{}", i));
    auto leaver = make_lock(cluster, 2, name);
    REQUIRE(acquire(cluster, *leaver, Mode::exclusive) == 0);
    locks.push_back(make_lock(cluster, static_cast<std::uint32_t>(i % 2), name));
    Ended ended;
    Scope scope(cluster.executor);
    scope.spawn(acquire_into(*locks.back(), Mode::protected_read, {}, {}, ended));
    REQUIRE(release(cluster, *leaver) == 0);
    REQUIRE(cluster.run_until([&] { return ended.has_value(); }));
  }
  cluster.kill(2, false, true);
  cluster.change_view();
  for (auto& lock : locks)
    CHECK(acquire(cluster, *lock, Mode::exclusive, {.no_queue = true}) == 0);
  cluster.start(2);
  cluster.change_view();
  for (auto& lock : locks) {
    auto joined = make_lock(cluster, 2, lock->name());
    CHECK(acquire(cluster, *joined, Mode::exclusive, {.no_queue = true}) == EAGAIN);
    REQUIRE(acquire(cluster, *lock, Mode::null) == 0);
    CHECK(acquire(cluster, *joined, Mode::exclusive, {.no_queue = true}) == 0);
  }
  CHECK(cluster.faults() == 0);
}

TEST_CASE("a view may change at every message of a hand-over, and of a recovery") {
  // The same story, cut after one message more each time.
  bool ended_before_cut = false;
  for (std::uint64_t cut = 0; !ended_before_cut; ++cut) {
    INFO("after " << cut << " messages");
    Cluster cluster(6);
    cluster.start_all(3);
    const ResourceName name = name_kept_by(cluster.node(0), NodeId(2));
    auto first = make_lock(cluster, 0, name);
    REQUIRE(acquire(cluster, *first, Mode::exclusive) == 0);
    auto second = make_lock(cluster, 1, name);
    auto third = make_lock(cluster, 2, name);
    Ended got_second;
    Ended got_third;
    Ended gave;
    cluster.node(1).users.spawn(acquire_into(*second, Mode::exclusive, {}, {}, got_second));
    cluster.node(2).users.spawn(acquire_into(*third, Mode::protected_read, {}, {}, got_third));
    cluster.node(0).users.spawn(release_into(*first, {.value = true}, value_of(8), gave));
    const auto before = cluster.messages();
    auto cut_now = [&] { return cluster.messages() >= before + cut; };
    ended_before_cut = !cluster.run_until(cut_now, cluster.clock.now() + 1s);
    // Two views, the second in the middle of the first's recovery.
    cluster.announce(cluster.next_view());
    const auto meanwhile = cluster.messages();
    cluster.run_until([&] { return cluster.messages() >= meanwhile + cut % 17; }, cluster.clock.now() + 1s);
    cluster.change_view();
    cluster.run_for(100ms);
    REQUIRE(gave == 0);
    // One of them has it and the other waits for it, whoever came first.
    REQUIRE(got_second.has_value() != got_third.has_value());
    Lock& holder = got_second ? *second : *third;
    CHECK(holder.value().bytes == value_of(8));
    CHECK(holder.value().valid);
    REQUIRE(release(cluster, holder) == 0);
    cluster.run_for(100ms);
    CHECK((got_second == 0 && got_third == 0));
    CHECK(cluster.faults() == 0);
    REQUIRE(cut < 200);
  }
}

TEST_CASE("a node that is out of the cluster fails what waits and grants nothing more") {
  Cluster cluster(7);
  cluster.start_all(2);
  const ResourceName name = name_kept_by(cluster.node(0), NodeId(0));
  auto held = make_lock(cluster, 0, name);
  REQUIRE(acquire(cluster, *held, Mode::exclusive) == 0);
  auto waiting = make_lock(cluster, 1, name);
  Ended ended;
  cluster.node(1).users.spawn(acquire_into(*waiting, Mode::exclusive, {}, {}, ended));
  cluster.run_for(10ms);
  View without = cluster.next_view();
  std::erase(without.members, cluster.node(1).member);
  cluster.node(1).manager.enter_view(without);
  cluster.run_for(10ms);
  CHECK(ended == ESHUTDOWN);
  CHECK(acquire(cluster, *waiting, Mode::null) == ESHUTDOWN);
  CHECK(cluster.node(1).manager.out_of_cluster());
}

TEST_CASE("bytes that are no message, or that no peer may say, are refused and change nothing") {
  Cluster cluster(8);
  cluster.start_all(2);
  LockManager& manager = cluster.node(0).manager;
  const Member peer = cluster.node(1).member;
  auto held = make_lock(cluster, 0, ResourceName(LockspaceId(1), "x"));
  REQUIRE(acquire(cluster, *held, Mode::exclusive) == 0);
  cluster.run_for(10ms);
  const std::string before = manager.dump().text();
  const ResourceName name(LockspaceId(1), "x");
  const std::vector<Message> forbidden = {
      Convert{LockId(77), Mode::exclusive, {}, false, {}},
      Reply{LockId(1), ReplyCode::granted, Mode::null, false, {}},
      YouAreMaster{LockId(1), name},
      Forget{ResourceName(LockspaceId(1), "never heard of")},
      MasterIs{peer, name},
      Request{Member{NodeId(9), Incarnation(1)}, LockId(1), Mode::exclusive, {}, 0, name},
      Report{LockId(5), Mode::exclusive, false, {}, ResourceName(LockspaceId(1), "y")},
      RangeRequest{1,
                   RangeAction::set,
                   {{peer, RangeOwnerKind::record, 1}, 1, RangeMode::read, {0, 1}},
                   ResourceName(LockspaceId(2), "z")},
      RangeReply{5, RangeCode::done, {}}};
  for (const Message& message : forbidden) {
    FrameWriter writer({manager.view().number, peer, manager.self()});
    writer.add(message);
    const auto faults = manager.faults();
    manager.received(peer, std::move(writer).take());
    INFO(message_name(message));
    CHECK(manager.faults() == faults + 1);
  }
  // Of an earlier view, or for an earlier life: dropped without a word.
  const auto faults = manager.faults();
  for (FrameHeader header : {FrameHeader{ViewNumber(0), peer, manager.self()},
                             FrameHeader{manager.view().number, peer, {manager.self().node, Incarnation(0)}}}) {
    FrameWriter writer(header);
    writer.add(Unlock{LockId(77), false, {}});
    manager.received(peer, std::move(writer).take());
  }
  CHECK(manager.faults() == faults);
  manager.received(peer, std::vector<std::byte>(100));
  CHECK(manager.faults() == faults + 1);
  CHECK(manager.dump().text() == before);
  CHECK(held->granted() == Mode::exclusive);
}
