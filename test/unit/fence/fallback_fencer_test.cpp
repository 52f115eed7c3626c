// Where no disk fences: an operator, or a program, says that a life can write nothing more.
#include <algorithm>
#include <deque>
#include <memory>
#include <vector>

#include "fence/agent_fencer.h"
#include "fence/disk_fencing.h"
#include "fence/fencing.h"
#include "test/support/catch.h"
#include "test/support/manual_clock.h"
#include "test/support/memory_device.h"
#include "test/support/must.h"

using namespace corral;
using namespace corral::test;
using namespace std::chrono_literals;
using cluster::FencePolicy;
using cluster::SlotState;

namespace {

constexpr Member kDead{NodeId(2), Incarnation(500)};
constexpr std::uint64_t kHeartbeat = 33;

/// Answers as told, and remembers what it was asked.
class ScriptedPrograms final : public ProgramRunner {
 public:
  Task<Result<std::string>> find(std::string name) override {
    if (!installed) co_return fail(ENOENT, "there is no program {} in /usr/sbin", name);
    co_return "/usr/sbin/" + name;
  }
  Task<Result<ProgramRun>> run(std::string path, std::string input, Duration) override {
    paths.push_back(std::move(path));
    inputs.push_back(std::move(input));
    REQUIRE_FALSE(answers.empty());
    Result<ProgramRun> answer = answers.front();
    answers.pop_front();
    co_return answer;
  }

  bool installed = true;
  std::deque<Result<ProgramRun>> answers;
  std::vector<std::string> paths;
  std::vector<std::string> inputs;
};

/// A disk without reservations, with a cluster area in which node "dead" was a member and fell silent.
struct Disk {
  explicit Disk(FencePolicy policy) {
    header.settings.fence = policy;
    if (policy == FencePolicy::agent) header.settings.fence_agent = "fence_lamp";
    header.settings.fence_agent_options = "ip={node}-bmc  login=admin";
    AlignedBuffer contents = cluster::ClusterArea::new_contents(header);
    must(run(device.write(0, contents.span(), WriteMode::write_through)));
    write_slot(kDead, "dead");
  }
  template <class T>
  T run(Task<T> task) {
    return run_to_end(clock, executor, std::move(task));
  }
  void write_slot(Member life, std::string name, std::uint64_t heartbeat = kHeartbeat) {
    must(run(area.write_slot({.id = life.node,
                              .cluster = header.cluster,
                              .state = SlotState::member,
                              .incarnation = life.incarnation,
                              .key = fencing_key(header.cluster, life, FencingWay::manual),
                              .heartbeat = heartbeat,
                              .name = std::move(name)})));
  }
  Result<std::unique_ptr<cluster::Fencer>> choose(std::string node_name = "self") {
    return run(choose_fencer({executor, area, writes, programs, std::move(node_name), Logger(log)}, header));
  }
  void acknowledge(Member life, std::uint64_t heartbeat) {
    cluster::Header changed = must(run(area.read_header()));
    changed.acknowledged[life.node.value] = {life.incarnation, heartbeat};
    must(run(area.write_header(changed)));
  }
  int fence(cluster::Fencer& fencer) {
    const Result<> done = run(fencer.fence(kDead));
    if (!done) said = done.error().describe();
    return done ? 0 : done.error().code();
  }

  ManualClock clock;
  Executor executor{clock};
  NullLogSink log;
  ScriptedPrograms programs;
  MemoryDevice device{executor, 1 << 20};
  WriteGate writes{executor, device};
  cluster::ClusterArea area{device, 0};
  cluster::Header header;
  std::string said;
};

Result<ProgramRun> exits(int status) {
  return ProgramRun{status, ""};
}

}  // namespace

TEST_CASE("a disk without reservations needs another way, and says which there are") {
  Disk disk(FencePolicy::scsi_pr);
  const auto none = disk.choose();
  REQUIRE_FALSE(none);
  CHECK(none.error().code() == EOPNOTSUPP);
  CHECK(none.error().message().contains("fence manual"));
  CHECK(none.error().message().contains("agent:NAME"));
}

TEST_CASE("by hand, a life is fenced by a word that is about it as it stands still") {
  Disk disk(FencePolicy::manual);
  const auto fencer = must(disk.choose());
  CHECK(disk.fence(*fencer) == EINPROGRESS);
  CHECK(disk.said.contains("corral fence ack"));
  CHECK(disk.said.contains("dead"));
  // Of an earlier life, or of this one before another heartbeat.
  disk.acknowledge({kDead.node, kDead.incarnation - 1}, kHeartbeat);
  CHECK(disk.fence(*fencer) == EINPROGRESS);
  disk.acknowledge(kDead, kHeartbeat - 1);
  CHECK(disk.fence(*fencer) == EINPROGRESS);
  disk.acknowledge(kDead, kHeartbeat);
  CHECK(disk.fence(*fencer) == 0);
  // It lived after all.
  disk.write_slot(kDead, "dead", kHeartbeat + 1);
  CHECK(disk.fence(*fencer) == EINPROGRESS);
  // The word about this life says nothing of the next one.
  const Member next{kDead.node, kDead.incarnation + 1};
  disk.write_slot(next, "dead");
  CHECK_FALSE(disk.run(fencer->fence(next)));
}

TEST_CASE("a node that is back needs nobody's word about the life before") {
  Disk disk(FencePolicy::manual);
  const auto fencer = must(disk.choose());
  // Under another name, or an older life.
  disk.write_slot({NodeId(4), Incarnation(600)}, "another");
  disk.write_slot({NodeId(5), Incarnation(400)}, "dead");
  CHECK(disk.fence(*fencer) == EINPROGRESS);
  disk.write_slot({NodeId(6), Incarnation(600)}, "dead");
  CHECK(disk.fence(*fencer) == 0);
  Disk own(FencePolicy::manual);
  CHECK(own.fence(*must(own.choose("dead"))) == 0);
}

TEST_CASE("an agent turns the node off, and must say that it is") {
  Disk disk(FencePolicy::agent);
  const auto fencer = must(disk.choose());
  disk.programs.answers = {exits(0), exits(2)};
  CHECK(disk.fence(*fencer) == 0);
  REQUIRE(disk.programs.inputs.size() == 2);
  CHECK(disk.programs.paths[0] == "/usr/sbin/fence_lamp");
  CHECK(disk.programs.inputs[0] == "ip=dead-bmc\nlogin=admin\nplug=dead\nport=dead\nnodename=dead\naction=off\n");
  CHECK(disk.programs.inputs[1].ends_with("action=status\n"));

  const std::vector<std::vector<Result<ProgramRun>>> failures{
      {exits(0), exits(0)},  // still on
      {exits(0), exits(1)},  // it cannot tell
      {exits(1)},
      {exits(2)},  // it does not understand its options, and would say so of the status as well
      {fail(ETIMEDOUT, "too long")},
      {exits(0), fail(EIO, "ended by a signal")},
  };
  for (const auto& failure : failures) {
    disk.programs.answers = {failure.begin(), failure.end()};
    const Time began = disk.clock.now();
    CHECK(disk.fence(*fencer) == EINPROGRESS);
    CHECK(disk.said.contains("corral fence ack"));
    CHECK(disk.programs.answers.empty());
    // Not again and again without a pause.
    if (&failure != &failures.front()) CHECK(disk.clock.now() - began >= kAgentPause);
  }
  disk.programs.answers = {exits(0), exits(2)};
  CHECK(disk.fence(*fencer) == 0);
}

TEST_CASE("an operator's word counts where the agent fails") {
  Disk disk(FencePolicy::agent);
  const auto fencer = must(disk.choose());
  disk.programs.answers = {exits(1)};
  CHECK(disk.fence(*fencer) == EINPROGRESS);
  disk.acknowledge(kDead, kHeartbeat);
  CHECK(disk.fence(*fencer) == 0);
}

TEST_CASE("a host without the agent does not become a node") {
  Disk disk(FencePolicy::agent);
  disk.programs.installed = false;
  const auto none = disk.choose();
  REQUIRE_FALSE(none);
  CHECK(none.error().message().contains("fence_lamp"));
}

TEST_CASE("options may say themselves what names the node") {
  CHECK(agent_input("plug=slot-{node} x={node}{node}", "status", "a") ==
        "plug=slot-a\nx=aa\nport=a\nnodename=a\naction=status\n");
  CHECK(agent_input("", "off", "a") == "plug=a\nport=a\nnodename=a\naction=off\n");
}

TEST_CASE("an operator's word is taken only about a node that is silent") {
  Disk disk(FencePolicy::manual);
  Random random(1);
  DiskFencing by_hand = must(disk.run(DiskFencing::open_at(disk.executor, disk.area, {}, random, Logger(disk.log))));
  CHECK(disk.run(by_hand.find_dead("nobody")).error().code() == ENOENT);
  const cluster::ObservedNode dead = must(disk.run(by_hand.find_dead("dead")));
  CHECK(dead.slot.member() == kDead);
  CHECK(dead.waits_for_operator());
  // It beats once more before the word is written.
  disk.write_slot(kDead, "dead", kHeartbeat + 1);
  CHECK(disk.run(by_hand.acknowledge(dead)).error().code() == EBUSY);
  must(disk.run(by_hand.acknowledge(must(disk.run(by_hand.find_dead("dead"))))));
  CHECK(disk.fence(*must(disk.choose())) == 0);
  CHECK(disk.run(by_hand.find_dead("dead")).error().code() == EALREADY);
  // One that lives.
  Scope scope(disk.executor);
  auto beat = [](Disk& on) -> Task<void> {
    for (std::uint64_t heartbeat = 100; heartbeat < 120; ++heartbeat) {
      must(co_await on.area.write_slot({.id = kDead.node,
                                        .cluster = on.header.cluster,
                                        .state = SlotState::member,
                                        .incarnation = kDead.incarnation,
                                        .key = fencing_key(on.header.cluster, kDead, FencingWay::manual),
                                        .heartbeat = heartbeat,
                                        .name = "dead"}));
      co_await on.executor.sleep_for(500ms);
    }
  };
  scope.spawn(beat(disk));
  const auto living = disk.run(by_hand.find_dead("dead"));
  REQUIRE_FALSE(living);
  CHECK(living.error().code() == EBUSY);
  disk.clock.run_until_idle(disk.executor);
}

TEST_CASE("nodes are expelled and let in again by their names") {
  Disk disk(FencePolicy::manual);
  Random random(1);
  DiskFencing by_hand = must(disk.run(DiskFencing::open_at(disk.executor, disk.area, {}, random, Logger(disk.log))));
  const auto expelled = [&] { return must(disk.run(disk.area.read_header())).expelled; };
  must(disk.run(by_hand.expel("one")));
  must(disk.run(by_hand.expel("two")));
  must(disk.run(by_hand.expel("one")));
  CHECK(expelled() == std::vector<std::string>{"one", "two"});
  CHECK(disk.run(by_hand.let_in("three")).error().code() == ENOENT);
  must(disk.run(by_hand.let_in("one")));
  CHECK(expelled() == std::vector<std::string>{"two"});
  Result<> more;
  for (int i = 0; i < 100 && more; ++i)
    more = disk.run(by_hand.expel(fmt::format("{}-{:050}", "node", i)));
  REQUIRE_FALSE(more);
  CHECK(more.error().code() == ENOSPC);
}
