/// Lock managers of several nodes in one process, on a simulated network under virtual time, and whoever decides on
/// their membership.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "base/log.h"
#include "cluster/simulated_network.h"
#include "dlm/lock_manager.h"
#include "test/support/manual_clock.h"

namespace corral::dlm::test {

/// Keeps the errors that were logged.
class ErrorLog final : public LogSink {
 public:
  bool enabled(LogLevel level) const override { return level >= LogLevel::error; }
  void write(LogLevel, std::string_view line) override { lines.emplace_back(line); }
  std::vector<std::string> lines;
};

/// A node: its lock manager, and the coroutines of its users.
struct Node {
  Node(Executor& executor, Link& link, const Limits& limits, LogSink& log)
      : member(link.self()), manager(executor, link, limits, Logger(log)), users(executor) {}
  Member member;
  LockManager manager;
  Scope users;
};

class Cluster {
 public:
  explicit Cluster(std::uint64_t seed, SimulatedNetworkOptions options = {})
      : executor(clock), network(executor, seed, options), scope_(executor) {}

  Limits limits;
  /// Starts the next life of a node; it is no member before the next view.
  Node& start(std::uint32_t number) {
    const NodeId id(number);
    const Member member{id, Incarnation(++incarnations_[id])};
    Link& link = network.add(member);
    return *nodes_.emplace(id, std::make_unique<Node>(executor, link, limits, log)).first->second;
  }
  /// The node's memory is gone at this moment. Its journal has to be replayed, unless it left in order.
  void kill(std::uint32_t number, bool silent = false, bool in_order = false) {
    auto found = nodes_.find(NodeId(number));
    CHECK_INVARIANT(found != nodes_.end());
    const Member member = found->second->member;
    nodes_.erase(found);
    network.kill(member, silent);
    if (!in_order) unrecovered.push_back(member);
  }
  Node* find(std::uint32_t number) {
    auto found = nodes_.find(NodeId(number));
    return found == nodes_.end() ? nullptr : found->second.get();
  }
  Node& node(std::uint32_t number) { return *nodes_.at(NodeId(number)); }
  const std::map<NodeId, std::unique_ptr<Node>>& nodes() const { return nodes_; }

  /// A view of all nodes that live, handed to each after a delay of its own, if the node still lives then.
  View next_view() {
    View view{ViewNumber(++views_), {}, unrecovered};
    for (const auto& [id, node] : nodes_)
      view.members.push_back(node->member);
    return view;
  }
  void announce(const View& view, std::function<Duration()> delay = [] { return Duration{}; }) {
    for (const Member& member : view.members)
      scope_.spawn(enter_later(*this, member, view, delay()));
  }
  void announce_recovered(Member dead, std::function<Duration()> delay = [] { return Duration{}; }) {
    std::erase(unrecovered, dead);
    for (const auto& [id, node] : nodes_)
      scope_.spawn(recovered_later(*this, node->member, dead, delay()));
  }
  Node* living(Member member) {
    Node* node = find(member.node.value);
    return node != nullptr && node->member == member ? node : nullptr;
  }

  /// Everything happens that can without time passing beyond `limit` from now.
  void run_for(Duration limit) {
    const Time until = clock.now() + limit;
    run_until([this, until] { return clock.now() >= until; }, until);
    clock.advance_to(until);
    executor.fire_timers();
    while (executor.run_ready() > 0) {
    }
  }
  /// False if it did not come about before the limit.
  bool run_until(const std::function<bool()>& done, Time limit) {
    for (;;) {
      while (!done() && executor.run_ready(1) > 0) {
      }
      if (done()) return true;
      auto due = executor.next_timer();
      if (!due || *due > limit) return false;
      clock.advance_to(std::max(*due, clock.now()));
      executor.fire_timers();
    }
  }
  bool run_until(const std::function<bool()>& done) { return run_until(done, clock.now() + std::chrono::seconds(600)); }
  bool all_running() const {
    for (const auto& [id, node] : nodes_) {
      if (!node->manager.running() || node->manager.view().number.value != views_) return false;
    }
    return true;
  }
  /// Starts nodes 0 to count - 1, all members and running.
  void start_all(std::uint32_t count) {
    for (std::uint32_t i = 0; i < count; ++i)
      start(i);
    change_view();
  }
  /// A view of those who live; returns when all of them run.
  void change_view() {
    announce(next_view());
    if (run_until([this] { return all_running(); })) return;
    for (const auto& [id, node] : nodes_)
      fmt::print("{}", node->manager.dump().text());
    CHECK_INVARIANT(all_running());
  }
  std::uint64_t messages() const { return network.delivered(); }
  std::uint64_t faults() const {
    std::uint64_t sum = 0;
    for (const auto& [id, node] : nodes_)
      sum += node->manager.faults();
    return sum;
  }

  /// The dead whose journals are not replayed.
  std::vector<Member> unrecovered;
  ManualClock clock;
  Executor executor;
  ErrorLog log;
  SimulatedNetwork network;

 private:
  static Task<void> enter_later(Cluster& cluster, Member member, View view, Duration delay) {
    co_await cluster.executor.sleep_for(delay);
    Node* node = cluster.living(member);
    if (node != nullptr && view.number > node->manager.view().number) node->manager.enter_view(view);
  }
  static Task<void> recovered_later(Cluster& cluster, Member member, Member dead, Duration delay) {
    co_await cluster.executor.sleep_for(delay);
    if (Node* node = cluster.living(member)) node->manager.recovered(dead);
  }

  std::map<NodeId, std::uint64_t> incarnations_;
  std::uint64_t views_ = 0;
  std::map<NodeId, std::unique_ptr<Node>> nodes_;
  Scope scope_;
};

}  // namespace corral::dlm::test
