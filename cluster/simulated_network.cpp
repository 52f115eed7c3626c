#include "cluster/simulated_network.h"

#include <array>

#include "base/check.h"

namespace corral {

class SimulatedNetwork::End final : public Link {
 public:
  /// 0: none.
  struct Connection {
    Member peer;
    std::uint64_t number = 0;
  };

  End(SimulatedNetwork& network, Member self) : network_(network), self_(self) {}

  Member self() const override { return self_; }
  void attach(LinkChannel channel, LinkUser* user) override { users_[static_cast<std::size_t>(channel)] = user; }
  bool send(Member to, LinkChannel channel, std::vector<std::byte> message) override {
    return network_.send(*this, to, channel, std::move(message));
  }
  LinkUser* user(LinkChannel channel) const { return users_[static_cast<std::size_t>(channel)]; }
  Connection& to(NodeId peer) { return connections_[peer]; }
  std::map<NodeId, Connection>& connections() { return connections_; }

  template <class Tell>
  void tell_users(Tell tell) {
    for (LinkUser* user : users_) {
      if (user != nullptr) tell(*user);
    }
  }

 private:
  SimulatedNetwork& network_;
  Member self_;
  std::array<LinkUser*, kChannels> users_{};
  std::map<NodeId, Connection> connections_;
};

SimulatedNetwork::SimulatedNetwork(Executor& executor, std::uint64_t seed, SimulatedNetworkOptions options)
    : executor_(executor), random_(seed), options_(options), agenda_changed_(executor), scope_(executor) {
  scope_.spawn(run());
}

SimulatedNetwork::~SimulatedNetwork() = default;

SimulatedNetwork::End* SimulatedNetwork::end_of(NodeId node) {
  auto found = ends_.find(node);
  return found == ends_.end() ? nullptr : found->second.get();
}

Duration SimulatedNetwork::latency() {
  return Duration(
      static_cast<Duration::rep>(random_.between(static_cast<std::uint64_t>(options_.latency_min.count()),
                                                 static_cast<std::uint64_t>(options_.latency_max.count()))));
}

void SimulatedNetwork::later(Duration delay, std::function<void()> action) {
  agenda_.emplace(std::pair(executor_.now() + delay, sequence_++), std::move(action));
  agenda_changed_.notify_all();
}

Task<void> SimulatedNetwork::run() {
  for (;;) {
    if (agenda_.empty()) {
      co_await agenda_changed_.wait();
      continue;
    }
    const Time due = agenda_.begin()->first.first;
    if (executor_.now() < due) {
      co_await agenda_changed_.wait_until(due);
      continue;
    }
    auto action = std::move(agenda_.begin()->second);
    agenda_.erase(agenda_.begin());
    action();
  }
}

Link& SimulatedNetwork::add(Member member) {
  CHECK_INVARIANT(end_of(member.node) == nullptr);
  silent_.erase(member.node);
  End& end = *ends_.emplace(member.node, std::make_unique<End>(*this, member)).first->second;
  for (auto& [node, other] : ends_) {
    if (node == member.node) continue;
    later(latency(), [this, a = member.node, b = node] { connect_if_possible(a, b); });
  }
  return end;
}

void SimulatedNetwork::kill(Member member, bool silent) {
  End* end = end_of(member.node);
  CHECK_INVARIANT(end != nullptr && end->self() == member);
  auto connections = end->connections();
  ends_.erase(member.node);
  if (silent) silent_.insert(member.node);
  for (const auto& [node, connection] : connections) {
    if (connection.number == 0) continue;
    const bool reset_arrives = !silent && !cut_between(member.node, node);
    later(reset_arrives ? latency() : options_.stall_timeout,
          [this, at = node, dead = member.node, number = connection.number] { learn_broken(at, dead, number); });
  }
}

void SimulatedNetwork::connect_if_possible(NodeId a, NodeId b) {
  End* one = end_of(a);
  End* other = end_of(b);
  if (one == nullptr || other == nullptr || cut_between(a, b) || cut_between(b, a)) return;
  if (refusing_.contains(a) || refusing_.contains(b)) return;
  // A half-open end first has to learn that its old connection has gone.
  if (one->to(b).number != 0 || other->to(a).number != 0) return;
  const std::uint64_t number = next_connection_++;
  one->to(b) = {other->self(), number};
  other->to(a) = {one->self(), number};
  const Member first = one->self();
  const Member second = other->self();
  one->tell_users([second](LinkUser& user) { user.connected(second); });
  if (End* still = end_of(b)) still->tell_users([first](LinkUser& user) { user.connected(first); });
}

bool SimulatedNetwork::send(End& from, Member to, LinkChannel channel, std::vector<std::byte> message) {
  CHECK_INVARIANT(message.size() <= kLinkMessageBytesMax);
  const auto connection = from.to(to.node);
  if (connection.number == 0 || connection.peer != to) return false;
  const NodeId source = from.self().node;
  Path& path = paths_[{source, to.node}];
  path.last_due = std::max(path.last_due, executor_.now() + latency() + path.slower);
  path.bytes += message.size();
  path.packets.push_back({path.last_due, connection.number, channel, std::move(message)});
  if (path.cut) watch_for_stall(source, to.node);
  if (path.bytes > kLinkQueueBytesMax) give_up(source, to.node, connection.number);
  later(path.last_due - executor_.now(), [this, source, target = to.node] { deliver_due(source, target); });
  return true;
}

void SimulatedNetwork::deliver_due(NodeId from, NodeId to) {
  for (;;) {
    // Looked up each time: a delivery may change everything.
    Path& path = paths_[{from, to}];
    if (path.cut || path.packets.empty() || path.packets.front().due > executor_.now()) return;
    Packet packet = std::move(path.packets.front());
    path.packets.pop_front();
    path.bytes -= packet.bytes.size();
    deliver(from, to, packet);
  }
}

void SimulatedNetwork::deliver(NodeId from, NodeId to, const Packet& packet) {
  End* receiver = end_of(to);
  if (receiver == nullptr || receiver->to(from).number != packet.connection) return;
  const Member sender = receiver->to(from).peer;
  ++delivered_;
  if (on_delivery) on_delivery({sender, receiver->self(), packet.channel, packet.bytes});
  if (LinkUser* user = receiver->user(packet.channel)) user->received(sender, packet.bytes);
}

void SimulatedNetwork::watch_for_stall(NodeId from, NodeId to) {
  Path& path = paths_[{from, to}];
  if (path.stalling || path.packets.empty()) return;
  path.stalling = true;
  later(options_.stall_timeout, [this, from, to, number = path.packets.front().connection] {
    Path& stalled = paths_[{from, to}];
    stalled.stalling = false;
    const bool still_there = !stalled.packets.empty() && stalled.packets.front().connection == number;
    if (stalled.cut && still_there) give_up(from, to, number);
  });
}

void SimulatedNetwork::give_up(NodeId first, NodeId other, std::uint64_t connection) {
  later(Duration{}, [this, first, other, connection] { learn_broken(first, other, connection); });
  later(cut_between(first, other) ? options_.stall_timeout : latency(),
        [this, first, other, connection] { learn_broken(other, first, connection); });
}

void SimulatedNetwork::learn_broken(NodeId at, NodeId peer, std::uint64_t connection) {
  End* end = end_of(at);
  if (end == nullptr || end->to(peer).number != connection) return;
  const Member gone = end->to(peer).peer;
  end->to(peer) = {};
  Path& path = paths_[{at, peer}];
  path.packets.clear();
  path.bytes = 0;
  const Member self = end->self();
  end->tell_users([gone](LinkUser& user) { user.disconnected(gone); });
  if (on_disconnect) on_disconnect(self, gone);
  later(options_.reconnect_delay, [this, at, peer, gone] {
    connect_if_possible(at, peer);
    tell_if_refused(at, gone);
  });
}

void SimulatedNetwork::tell_if_refused(NodeId at, Member gone) {
  End* end = end_of(at);
  const bool reaches_host = !silent_.contains(gone.node) && !cut_between(at, gone.node) && !cut_between(gone.node, at);
  const bool listens = end_of(gone.node) != nullptr && !refusing_.contains(gone.node) && !refusing_.contains(at);
  if (end == nullptr || listens || !reaches_host) return;
  end->tell_users([gone](LinkUser& user) { user.refused(gone); });
}

void SimulatedNetwork::cut(NodeId from, NodeId to) {
  paths_[{from, to}].cut = true;
  watch_for_stall(from, to);
}

void SimulatedNetwork::heal(NodeId from, NodeId to) {
  Path& path = paths_[{from, to}];
  if (!path.cut) return;
  path.cut = false;
  path.last_due = std::max(path.last_due, executor_.now() + latency());
  later(latency(), [this, from, to] { deliver_due(from, to); });
  later(options_.reconnect_delay, [this, from, to] { connect_if_possible(from, to); });
}

void SimulatedNetwork::refuse(NodeId node) {
  refusing_.insert(node);
  for (auto& [other, end] : ends_) {
    if (other != node) break_connection(node, other);
  }
}

void SimulatedNetwork::heal_all() {
  refusing_.clear();
  for (auto& [a, first] : ends_) {
    for (auto& [b, second] : ends_) {
      if (a < b) later(options_.reconnect_delay, [this, one = a, other = b] { connect_if_possible(one, other); });
    }
  }
  std::vector<std::pair<NodeId, NodeId>> cut_paths;
  for (auto& [pair, path] : paths_) {
    if (path.cut) cut_paths.push_back(pair);
  }
  for (auto [from, to] : cut_paths)
    heal(from, to);
}

void SimulatedNetwork::break_connection(NodeId a, NodeId b) {
  End* end = end_of(a);
  if (end == nullptr || end->to(b).number == 0) return;
  const std::uint64_t connection = end->to(b).number;
  if (random_.chance(1, 2)) std::swap(a, b);
  give_up(a, b, connection);
}

}  // namespace corral
