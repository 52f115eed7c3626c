/// Who goes on after the members have stopped hearing each other, and the votes that operators see. Pure.
#pragma once

#include <bitset>
#include <cstdint>
#include <span>
#include <vector>

#include "cluster/area_format.h"

namespace corral::cluster {

/// A member whose heartbeats are on the disk.
struct Voter {
  NodeId node;
  std::uint32_t health = 0;     ///< 0 to 100
  std::bitset<kSlots> hears{};  ///< as its slot says
};

/// True if all hear each other, both ways.
bool all_hear_each_other(std::span<const Voter> voters);

/// The largest set in which all hear each other; of several, the one with the best health in sum, then the one with the
/// lowest node that is not in the other. Everybody who sees the same slots gets the same answer. Ascending.
std::vector<NodeId> survivors(std::span<const Voter> voters);

/// The votes as clusters with a quorum disk count them: a vote for each node, and, where the last node may go on alone,
/// one less than the nodes for the disk.
struct Votes {
  std::uint32_t nodes = 0;     ///< votes of the members
  std::uint32_t disk = 0;      ///< the disk's, where it has any
  std::uint32_t expected = 0;  ///< of all nodes that have not left orderly, and of the disk
  std::uint32_t quorum = 0;    ///< more than half of what is expected

  std::uint32_t total() const { return nodes + disk; }
  bool quorate() const { return total() >= quorum; }
};
Votes count_votes(QuorumPolicy policy, std::uint32_t members, std::uint32_t expected_nodes);

}  // namespace corral::cluster
