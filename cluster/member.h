/// Who is in the cluster: nodes, their incarnations, and views (the numbered lists of members that all agree on).
#pragma once

#include <algorithm>
#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "base/strong.h"

namespace corral {

/// Number of a node's slot in the cluster area, from 0; also the number of its journal.
using NodeId = Strong<struct NodeIdTag, std::uint32_t>;
/// Counts the lives of a node's process: one that was fenced or restarted comes back with a higher one.
using Incarnation = Strong<struct IncarnationTag, std::uint64_t>;
/// Number of a view; a later one is higher. 0 means none.
using ViewNumber = Strong<struct ViewNumberTag, std::uint64_t>;

/// Nodes are numbered below this.
inline constexpr std::uint32_t kNodesMax = 64;

/// One life of one node.
struct Member {
  NodeId node{};
  Incarnation incarnation{};
  auto operator<=>(const Member&) const = default;
  /// "node 3 (incarnation 17)".
  std::string describe() const { return fmt::format("node {} (incarnation {})", node.value, incarnation.value); }
};

/// The members from one change of membership to the next, in ascending order of their nodes; one life of a node only.
struct View {
  ViewNumber number{};
  std::vector<Member> members;
  /// Lives that ended without leaving in order and whose journals were not replayed when the view was made. Who is
  /// neither here nor a member has left nothing behind.
  std::vector<Member> unrecovered{};

  /// The life that `node` has in this view, if any.
  std::optional<Member> find(NodeId node) const {
    auto at = std::ranges::lower_bound(members, node, {}, &Member::node);
    if (at == members.end() || at->node != node) return std::nullopt;
    return *at;
  }
  bool contains(Member member) const { return find(member.node) == member; }
  /// Ascending, no node twice, no node out of range.
  bool well_formed() const {
    for (std::size_t i = 0; i < members.size(); ++i) {
      if (members[i].node.value >= kNodesMax) return false;
      if (i > 0 && members[i - 1].node >= members[i].node) return false;
    }
    return true;
  }
};

}  // namespace corral
