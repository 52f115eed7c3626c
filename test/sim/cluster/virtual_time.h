/// Virtual time for several computers: one world clock, and for every node a clock that may run a little fast or slow,
/// with an executor that can be held up (a stopped process, a stalled virtual machine) while the world goes on.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "base/task.h"
#include "test/support/manual_clock.h"

namespace corral::sim {

/// A node's clock: gains `drift_ppm` microseconds in each second of the world's.
class NodeClock final : public Clock {
 public:
  NodeClock(const Clock& world, std::int64_t drift_ppm) : world_(world), begin_(world.now()), drift_ppm_(drift_ppm) {}

  Time now() const override { return at(world_.now()); }
  WallTime wall() const override {
    const auto nanoseconds = now().time_since_epoch().count();
    return {1'700'000'000 + nanoseconds / 1'000'000'000, static_cast<std::uint32_t>(nanoseconds % 1'000'000'000)};
  }
  /// When, by the world's clock, this one will show at least `due`.
  Time world_time_of(Time due) const {
    const std::int64_t ahead = (due - begin_).count();
    Time guess = begin_ + Duration(ahead - ahead / (1'000'000 + drift_ppm_) * drift_ppm_);
    const Duration off = due - at(guess);
    guess += off;
    while (at(guess) < due)
      guess += Duration(1000);
    return guess;
  }

 private:
  Time at(Time world_time) const {
    const std::int64_t passed = (world_time - begin_).count();
    return begin_ + Duration(passed + passed / 1'000'000 * drift_ppm_);
  }

  const Clock& world_;
  Time begin_;
  std::int64_t drift_ppm_;
};

/// A computer's processor: its clock and its executor.
struct Processor {
  Processor(const Clock& world, std::int64_t drift_ppm) : clock(world, drift_ppm), executor(clock) {}
  NodeClock clock;
  Executor executor;
  bool paused = false;
};

/// The world's clock and executor, and the processors of the computers in it.
class VirtualTime {
 public:
  VirtualTime() { clock.advance_to(Time(std::chrono::hours(1))); }

  ManualClock clock;
  Executor executor{clock};
  /// Owned by others; in the order in which they take turns.
  std::vector<Processor*> processors;

  /// Runs until `done` says so or the world's clock would pass `limit`; false in the latter case.
  template <class Done>
  bool run_until(Time limit, Done done) {
    while (!done()) {
      if (run_ready()) continue;
      const std::optional<Time> due = next_due();
      if (!due || *due > limit) {
        if (limit > clock.now()) clock.advance_to(limit);
        return false;
      }
      if (*due > clock.now()) clock.advance_to(*due);
      fire_timers();
    }
    return true;
  }

 private:
  /// One turn of everybody; false if nobody had anything to do.
  bool run_ready() {
    bool ran = executor.run_ready(kTurn) > 0;
    // By index: a turn may bring processors or take some away.
    for (std::size_t i = 0; i < processors.size(); ++i) {
      if (!processors[i]->paused) ran |= processors[i]->executor.run_ready(kTurn) > 0;
    }
    return ran;
  }
  std::optional<Time> next_due() const {
    std::optional<Time> due = executor.next_timer();
    for (const Processor* processor : processors) {
      if (processor->paused) continue;
      if (const auto timer = processor->executor.next_timer()) {
        const Time world_time = processor->clock.world_time_of(*timer);
        if (!due || world_time < *due) due = world_time;
      }
    }
    return due;
  }
  void fire_timers() {
    executor.fire_timers();
    for (Processor* processor : processors) {
      if (!processor->paused) processor->executor.fire_timers();
    }
  }

  static constexpr std::size_t kTurn = 16;
};

}  // namespace corral::sim
