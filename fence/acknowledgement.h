/// What the disk says of a life that is to be fenced where no disk can do it: an operator's word, or that its node has
/// begun a later life.
#pragma once

#include <string>

#include "base/result.h"
#include "base/task.h"
#include "fence/fencing.h"

namespace corral {

struct SeenLife {
  /// The node's name; empty where the slot says nothing of this life any more.
  std::string name;
  /// It is known to write nothing more. Either an operator has said so (corral fence ack), and its heart has not beaten
  /// since; or a later life of its node has a slot, or is the one that asks, which does not begin before the last one
  /// has ended.
  bool ended = false;
};

/// Looks at the area; where the life has ended the log says that it is fenced, and why. The parts outlive the task.
Task<Result<SeenLife>> look_at_life(const FencingParts& parts, Member life);

}  // namespace corral
