/// Who is alive on a volume, as somebody sees it who is no node of the cluster and only reads its disk.
///
/// No clock of a node is compared with another's: the slots are read until each one in use was seen to change, or has
/// been silent for the failure timeout. With all nodes alive that takes one or two heartbeat intervals.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/task.h"
#include "cluster/arbitration.h"
#include "cluster/area.h"
#include "cluster/fencer.h"
#include "cluster/slot_monitor.h"

namespace corral::cluster {

enum class NodeState : std::uint8_t {
  offline,        ///< has left, or was recovered; or gave up before it was a member
  joining,        ///< has a slot, and is in no view yet
  online,         ///< a member whose heart beats
  silent,         ///< a member that was seen alive a moment ago; not yet for the failure timeout
  leaving,        ///< its heart beats, and the view goes on without it
  not_recovered,  ///< was a member and is silent: its journal has to be replayed
};
std::string_view name_of(NodeState state);

struct ObservedNode {
  Slot slot;
  NodeState state = NodeState::offline;
  /// How long the heartbeat stands still for certain; it may be longer.
  Duration silence{};
  /// Whether the disk still lets this life write, for all that is known: its key is registered, its process has the
  /// image file open, or no operator has said that it can write nothing more. None where that cannot be seen.
  std::optional<bool> admitted;

  /// It may read and write the volume at this moment.
  bool alive() const {
    return state == NodeState::online || state == NodeState::silent || state == NodeState::joining ||
           state == NodeState::leaving;
  }
  /// It is dead, and the others wait for somebody to say that it can write nothing more.
  bool waits_for_operator() const {
    return !alive() && slot.state != SlotState::free && way_of_key(slot.key) == FencingWay::manual &&
           admitted.value_or(false);
  }
};

struct Observation {
  Header header;
  ViewRecord record;
  std::vector<ObservedNode> nodes;    ///< of the slots that were ever used, in order
  std::vector<std::string> problems;  ///< records that cannot be read
  /// The lowest member that is alive; it leads.
  std::optional<NodeId> leader;
  Votes votes;

  const ObservedNode* find(NodeId node) const;
  bool anybody_alive() const;
};

class Observer {
 public:
  /// The area's device outlives the observer.
  Observer(Executor& executor, ClusterArea area) : executor_(executor), area_(area) {}

  /// Looks until it is certain of everybody. Takes up to the failure timeout and a half where a node is silent, and
  /// less where it had looked before. A header or view of which neither copy can be used is among the problems, and
  /// the cluster's times are then taken to be the usual ones. Errors: the device's, or an area of a newer version.
  Task<Result<Observation>> look();

 private:
  Task<Result<>> look_at_header();
  Task<Result<>> scan();
  bool certain() const;
  Observation conclude() const;
  Task<Result<>> see_who_is_admitted(Observation& observation) const;

  Executor& executor_;
  ClusterArea area_;
  Header header_;
  ViewRecord record_;
  std::string header_problem_;
  std::string view_problem_;
  std::vector<FoundSlot> slots_;
  std::optional<SlotMonitor> monitor_;
};

/// What a tool is about to do with a volume that it wants for itself.
enum class SoleUse : std::uint8_t {
  reading,  ///< a node that is silent does not mind
  writing,  ///< a node that is silent, but could still write, is in the way too
};

/// EBUSY with the nodes' names if a node is alive on the volume. Returns at once where no slot is in use.
Task<Result<>> check_no_node_lives(Executor& executor, ClusterArea area, SoleUse use);

}  // namespace corral::cluster
