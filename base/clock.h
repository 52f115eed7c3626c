/// Time as the core sees it: a monotonic clock for deadlines and a wall clock for inode timestamps, behind one seam.
#pragma once

#include <chrono>
#include <cstdint>

namespace corral {

using Duration = std::chrono::nanoseconds;

/// Tag of the monotonic time line; its zero is arbitrary (boot in production, start of the run in simulation).
struct Monotonic {
  using rep = Duration::rep;
  using period = Duration::period;
  using duration = Duration;
  using time_point = std::chrono::time_point<Monotonic>;
  static constexpr bool is_steady = true;
};
using Time = Monotonic::time_point;

/// Seconds and nanoseconds (0 to 999,999,999) since 1970, as inodes store them; seconds may be negative.
struct WallTime {
  std::int64_t seconds = 0;
  std::uint32_t nanoseconds = 0;
  auto operator<=>(const WallTime&) const = default;
};

/// The only source of time in the core. Implementations: SystemClock (production), the simulator's virtual clock.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual Time now() const = 0;
  virtual WallTime wall() const = 0;
};

/// The host's CLOCK_MONOTONIC and CLOCK_REALTIME.
class SystemClock final : public Clock {
 public:
  Time now() const override;
  WallTime wall() const override;
};

}  // namespace corral
