/// What an operator sees of the lock manager: every resource, its queues, who waits for whom and for how long. Made
/// from the state of one node; only the master of a resource knows all its locks. Asks nobody, so it never waits.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "dlm/range.h"
#include "dlm/types.h"

namespace corral::dlm {

struct DumpedLock {
  LockOwner owner;
  std::optional<Mode> granted;
  std::optional<Mode> requested;
  Duration since{};  ///< how long it has been so
  /// Of a lock that waits at its master here: those in its way, or that are ahead of it.
  std::vector<LockOwner> waits_for;
};

struct DumpedRange {
  HeldRange range;
  bool waiting = false;
  Duration since{};  ///< of one that waits
  std::vector<RangeOwner> waits_for;
};

struct DumpedResource {
  ResourceName name;
  /// Empty: not known.
  std::optional<Member> master;
  /// Dead nodes whose journals have to be replayed before anything is granted.
  std::vector<NodeId> blocked_by;
  LockValue value;  ///< where this node is the master
  /// At the master all locks, granted before converting before waiting; elsewhere this node's own.
  std::vector<DumpedLock> locks;
  std::vector<DumpedRange> ranges;  ///< POSIX locks, where this node is the master
};

/// Which resources a dump is to have.
enum class DumpScope : std::uint8_t {
  all,
  waited_for,  ///< those with a lock or a range that waits, as far as this node knows
};

struct Dump {
  Member self;
  View view;
  std::string state;  ///< "running", or the step of the recovery and whom it waits for
  std::vector<NodeId> unrecovered;
  std::vector<DumpedResource> resources;

  /// Lines for people.
  std::string text() const;
};

}  // namespace corral::dlm
