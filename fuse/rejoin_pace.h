/// When a mount that the cluster has lost tries to come back. Pure.
///
/// An attempt that fails costs the others next to nothing, so the next one follows soon: a node is back a few seconds
/// after what kept it away is mended, however long that took. A life that is lost costs them a recovery, so one that
/// is lost again and again soon after it came back waits longer each time before it comes back once more.
#pragma once

#include "base/clock.h"

namespace corral {

class RejoinPace {
 public:
  /// The life that has been lost served for so long; returns how long to wait before the first attempt.
  Duration lost(Duration served);
  /// An attempt failed; returns how long to wait before the next.
  Duration refused();

 private:
  Duration after_loss_{};
  Duration after_refusal_{};
};

}  // namespace corral
