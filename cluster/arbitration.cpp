#include "cluster/arbitration.h"

#include <algorithm>
#include <bit>

#include "base/check.h"

namespace corral::cluster {

namespace {

using Mask = std::uint64_t;
static_assert(kSlots <= 64);

Mask bit(std::size_t index) {
  return Mask{1} << index;
}

/// Finds the best set of voters that are all joined to each other (Bron and Kerbosch, with a pivot). Voters are indexes
/// in ascending order of their nodes.
class CliqueSearch {
 public:
  explicit CliqueSearch(std::span<const Voter> voters) : voters_(voters), joined_(voters.size(), 0) {
    for (std::size_t a = 0; a < voters.size(); ++a) {
      for (std::size_t b = 0; b < voters.size(); ++b) {
        if (a != b && voters[a].hears[voters[b].node.value] && voters[b].hears[voters[a].node.value])
          joined_[a] |= bit(b);
      }
    }
  }

  Mask best() {
    Mask all = 0;
    for (std::size_t i = 0; i < voters_.size(); ++i)
      all |= bit(i);
    extend(0, all, 0);
    return best_;
  }

 private:
  void extend(Mask chosen, Mask candidates, Mask excluded) {
    if (candidates == 0 && excluded == 0) {
      if (is_better(chosen, best_)) best_ = chosen;
      return;
    }
    if (std::popcount(chosen | candidates) < std::popcount(best_)) return;
    Mask pivot_joined = 0;
    for (Mask rest = candidates | excluded; rest != 0; rest &= rest - 1) {
      const Mask joined = joined_[static_cast<std::size_t>(std::countr_zero(rest))];
      if (std::popcount(joined & candidates) >= std::popcount(pivot_joined & candidates)) pivot_joined = joined;
    }
    for (Mask rest = candidates & ~pivot_joined; rest != 0; rest &= rest - 1) {
      const auto next = static_cast<std::size_t>(std::countr_zero(rest));
      extend(chosen | bit(next), candidates & joined_[next], excluded & joined_[next]);
      candidates &= ~bit(next);
      excluded |= bit(next);
    }
  }

  std::uint32_t health(Mask set) const {
    std::uint32_t sum = 0;
    for (; set != 0; set &= set - 1)
      sum += voters_[static_cast<std::size_t>(std::countr_zero(set))].health;
    return sum;
  }

  bool is_better(Mask a, Mask b) const {
    if (std::popcount(a) != std::popcount(b)) return std::popcount(a) > std::popcount(b);
    if (health(a) != health(b)) return health(a) > health(b);
    const Mask differing = a ^ b;
    return differing != 0 && (a & differing & -differing) != 0;
  }

  std::span<const Voter> voters_;
  std::vector<Mask> joined_;
  Mask best_ = 0;
};

}  // namespace

bool all_hear_each_other(std::span<const Voter> voters) {
  return std::ranges::all_of(voters, [&](const Voter& a) {
    return std::ranges::all_of(voters, [&](const Voter& b) { return a.node == b.node || a.hears[b.node.value]; });
  });
}

std::vector<NodeId> survivors(std::span<const Voter> voters) {
  CHECK_INVARIANT(std::ranges::is_sorted(voters, {}, &Voter::node) && voters.size() <= kSlots);
  std::vector<NodeId> nodes;
  for (Mask set = CliqueSearch(voters).best(); set != 0; set &= set - 1)
    nodes.push_back(voters[static_cast<std::size_t>(std::countr_zero(set))].node);
  return nodes;
}

Votes count_votes(QuorumPolicy policy, std::uint32_t members, std::uint32_t expected_nodes) {
  CHECK_INVARIANT(members <= expected_nodes);
  Votes votes{.nodes = members, .expected = expected_nodes};
  if (policy == QuorumPolicy::last_man_standing && expected_nodes > 0) {
    votes.disk = members > 0 ? expected_nodes - 1 : 0;
    votes.expected = 2 * expected_nodes - 1;
  }
  votes.quorum = votes.expected / 2 + 1;
  return votes;
}

}  // namespace corral::cluster
