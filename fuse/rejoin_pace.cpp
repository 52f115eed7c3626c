#include "fuse/rejoin_pace.h"

#include <algorithm>
#include <chrono>

namespace corral {

using namespace std::chrono_literals;

namespace {
constexpr Duration kFirstPause = 500ms;
/// An attempt itself takes as long where nobody answers.
constexpr Duration kLongestAfterRefusal = 4s;
constexpr Duration kLongestAfterLoss = 30s;
/// Who served for so long has been back.
constexpr Duration kSoundLife = 60s;

Duration longer(Duration pause, Duration longest) {
  return std::clamp(2 * pause, kFirstPause, longest);
}
}  // namespace

Duration RejoinPace::lost(Duration served) {
  after_refusal_ = {};
  // A first loss, however soon, is none of a row.
  const Duration pause = served < kSoundLife ? after_loss_ : Duration{};
  after_loss_ = longer(pause, kLongestAfterLoss);
  return pause;
}

Duration RejoinPace::refused() {
  after_refusal_ = longer(after_refusal_, kLongestAfterRefusal);
  return after_refusal_;
}

}  // namespace corral
