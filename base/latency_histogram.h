/// How long things took: counts by powers of two of microseconds.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>

#include "base/clock.h"

namespace corral {

class LatencyHistogram {
 public:
  /// Bucket 0 counts what took less than 1 us, bucket n what took less than 2^n us; the last one all that took longer.
  static constexpr std::size_t kBuckets = 28;

  void add(Duration taken) {
    const auto us = static_cast<std::uint64_t>(std::max<Duration::rep>(taken.count(), 0)) / 1000;
    ++buckets_[std::min<std::size_t>(static_cast<std::size_t>(std::bit_width(us)), kBuckets - 1)];
    total_ += taken;
  }
  const std::array<std::uint64_t, kBuckets>& buckets() const { return buckets_; }
  Duration total() const { return total_; }

 private:
  std::array<std::uint64_t, kBuckets> buckets_{};
  Duration total_{};
};

}  // namespace corral
