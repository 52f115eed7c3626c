/// Every time of the cluster, derived from the one that operators set.
#pragma once

#include <chrono>

#include "base/clock.h"
#include "cluster/area_format.h"

namespace corral::cluster {

struct Timing {
  Duration failure_timeout;     ///< a node silent for so long is dead
  Duration heartbeat_interval;  ///< from one writing of the own slot, and reading of the others', to the next
  Duration ended_after;         ///< a node whose host refuses connections, and that is silent for so long, has ended
  Duration late_after;          ///< silent for so long a node is late: what it last said is not relied on
  Duration lease;               ///< a node serves so long after the begin of its last heartbeat that succeeded
  Duration link_grace;          ///< members that do not hear each other for so long are a split
  Duration claim_wait;          ///< from writing a claim to a slot to looking whether it held
  Duration election_window;     ///< from looking at the view to having written the claim to be first
  Duration election_wait;       ///< from there to looking whether it held; more than the window

  static Timing of(const Settings& settings) {
    const Duration timeout = std::chrono::milliseconds(settings.failure_timeout_ms);
    return {.failure_timeout = timeout,
            .heartbeat_interval = timeout / 10,
            .ended_after = timeout / 8,
            .late_after = timeout / 10 * 4,
            .lease = timeout / 4 * 3,
            .link_grace = timeout / 2,
            .claim_wait = timeout / 5,
            .election_window = timeout / 4,
            .election_wait = timeout / 2};
  }
};

}  // namespace corral::cluster
