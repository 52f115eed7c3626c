/// A network under virtual time: latency, jitter between pairs, cuts in one direction, connections that break at one
/// end before the other knows, processes that die with a reset, whose hosts then refuse connections, and hosts that
/// fall silent. A seed replays it.
///
/// Messages of one pair of nodes keep their order in each direction; nothing orders those of different pairs. A message
/// into a cut waits, as TCP would send it again; when it has waited for `stall_timeout` the sender's end gives the
/// connection up, and the other end when a reset reaches it or after `stall_timeout` more.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "base/random.h"
#include "base/sync.h"
#include "base/task.h"
#include "cluster/link.h"

namespace corral {

struct SimulatedNetworkOptions {
  Duration latency_min = std::chrono::microseconds(50);
  Duration latency_max = std::chrono::microseconds(500);
  Duration stall_timeout = std::chrono::seconds(2);
  Duration reconnect_delay = std::chrono::milliseconds(10);
};

/// One delivered message, for traces and counts.
struct Delivery {
  Member from;
  Member to;
  LinkChannel channel;
  std::span<const std::byte> message;
};

class SimulatedNetwork {
 public:
  SimulatedNetwork(Executor& executor, std::uint64_t seed, SimulatedNetworkOptions options = {});
  ~SimulatedNetwork();
  SimulatedNetwork(const SimulatedNetwork&) = delete;
  SimulatedNetwork& operator=(const SimulatedNetwork&) = delete;

  /// The end of a new member, which connects to all others; an earlier life of the node must have been killed. The
  /// network owns the end until it is killed.
  Link& add(Member member);
  /// The process is gone. With `silent` its host is too: nobody sends a reset, peers find out by their timeouts.
  void kill(Member member, bool silent);

  /// Messages from one node to the other wait from now on (one direction only).
  void cut(NodeId from, NodeId to);
  void heal(NodeId from, NodeId to);
  void heal_all();
  /// Something on the way to this node answers connections in its host's place, refusing them, and breaks those there
  /// are, until heal_all().
  void refuse(NodeId node);
  /// Messages from one node to the other take so much longer from now on.
  void slow_down(NodeId from, NodeId to, Duration by) { paths_[{from, to}].slower = by; }
  /// Breaks the connection of two nodes now, as a lost packet and its timeout would: whichever end learns first, the
  /// other is told a latency later.
  void break_connection(NodeId a, NodeId b);

  /// Called when an end has learnt that its connection to a peer broke: (the end, the peer).
  std::function<void(Member, Member)> on_disconnect;
  /// Called for every message as it is delivered.
  std::function<void(const Delivery&)> on_delivery;
  std::uint64_t delivered() const { return delivered_; }

 private:
  class End;
  struct Packet {
    Time due;
    std::uint64_t connection;
    LinkChannel channel;
    std::vector<std::byte> bytes;
  };
  /// One direction between two nodes.
  struct Path {
    bool cut = false;
    Duration slower{};
    bool stalling = false;  ///< the agenda has a check for it
    std::deque<Packet> packets;
    std::size_t bytes = 0;
    Time last_due{};
  };

  Task<void> run();
  bool send(End& from, Member to, LinkChannel channel, std::vector<std::byte> message);
  void deliver_due(NodeId from, NodeId to);
  void deliver(NodeId from, NodeId to, const Packet& packet);
  void watch_for_stall(NodeId from, NodeId to);
  void connect_if_possible(NodeId a, NodeId b);
  void tell_if_refused(NodeId at, Member gone);
  /// `first` gives the connection up; the other end learns it as the paths allow.
  void give_up(NodeId first, NodeId other, std::uint64_t connection);
  /// The end at `at` learns that its connection to `peer` has gone, if it still is that connection.
  void learn_broken(NodeId at, NodeId peer, std::uint64_t connection);
  void later(Duration delay, std::function<void()> action);
  Duration latency();
  bool cut_between(NodeId from, NodeId to) { return paths_[{from, to}].cut; }
  End* end_of(NodeId node);

  Executor& executor_;
  Random random_;
  SimulatedNetworkOptions options_;
  std::map<NodeId, std::unique_ptr<End>> ends_;
  std::map<std::pair<NodeId, NodeId>, Path> paths_;
  std::set<NodeId> silent_;    ///< hosts that have gone along with their process
  std::set<NodeId> refusing_;  ///< see refuse()
  /// What happens when, in order of time, then of being asked for.
  std::map<std::pair<Time, std::uint64_t>, std::function<void()>> agenda_;
  std::uint64_t sequence_ = 0;
  std::uint64_t next_connection_ = 1;
  std::uint64_t delivered_ = 0;
  Signal agenda_changed_;
  Scope scope_;
};

}  // namespace corral
