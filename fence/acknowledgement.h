/// What the disk says of a life that is to be fenced where no disk can do it: an operator's word, or that its node has
/// begun a later life.
#pragma once

#include <string>

#include "base/result.h"
#include "base/task.h"
#include "cluster/area.h"

namespace corral {

struct SeenLife {
  /// The node's name; empty where the slot says nothing of this life any more.
  std::string name;
  /// Why it is known to write nothing more, for people; empty where that is not known. Either an operator has said so
  /// (corral fence ack), and its heart has not beaten since; or a later life of its node has a slot, or is the one that
  /// asks, which does not begin before the last one has ended.
  std::string ended;
};

/// Looks at the area. `own_name` is that of the node that asks.
Task<Result<SeenLife>> look_at_life(cluster::ClusterArea area, Member life, std::string own_name);

}  // namespace corral
