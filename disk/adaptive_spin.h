/// Whether to look for events for a while before sleeping. That saves the latency of a wake-up where the next event is
/// near, as with a client that sends its next request when it has the answer to the last, and wastes a CPU's time where
/// it is not.
///
/// Each time that nothing came, twice as many sleeps pass without looking, up to kLongestRest; each time that something
/// came, looking goes on at once. So a thread that has little to do, or whose clients need the CPU that it looks on,
/// wastes at most one look in kLongestRest sleeps.
#pragma once

#include <algorithm>

namespace corral {

class AdaptiveSpin {
 public:
  static constexpr int kLongestRest = 64;

  /// Called before each sleep. True: look first, and tell what came of it by came_of_it().
  bool worthwhile() {
    if (resting_ == 0) return true;
    --resting_;
    return false;
  }
  void came_of_it(bool event) {
    rest_ = event ? 0 : std::clamp(2 * rest_, 1, kLongestRest);
    resting_ = rest_;
  }

 private:
  int rest_ = 0;     ///< sleeps to pass after the last look
  int resting_ = 0;  ///< of them yet to pass
};

}  // namespace corral
