#include <ctime>

#include "base/clock.h"

namespace corral {

namespace {
timespec read_clock(clockid_t id) {
  timespec ts{};
  clock_gettime(id, &ts);
  return ts;
}
}  // namespace

Time SystemClock::now() const {
  timespec ts = read_clock(CLOCK_MONOTONIC);
  return Time(std::chrono::seconds(ts.tv_sec) + std::chrono::nanoseconds(ts.tv_nsec));
}

WallTime SystemClock::wall() const {
  timespec ts = read_clock(CLOCK_REALTIME);
  return {ts.tv_sec, static_cast<std::uint32_t>(ts.tv_nsec)};
}

}  // namespace corral
