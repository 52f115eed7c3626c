/// A clock that stands still until told otherwise, and the smallest loop around an Executor.
#pragma once

#include "base/clock.h"
#include "base/task.h"

namespace corral {

class ManualClock final : public Clock {
 public:
  Time now() const override { return now_; }
  WallTime wall() const override {
    auto ns = now_.time_since_epoch().count();
    return {1'700'000'000 + ns / 1'000'000'000, static_cast<std::uint32_t>(ns % 1'000'000'000)};
  }
  void advance_to(Time time) { now_ = time; }

  /// Runs everything that is ready, jumps to the next timer, and so on until nothing is left to do.
  void run_until_idle(Executor& executor) {
    run_until(executor, [] { return false; });
  }
  /// The same, but stops as soon as `done` says so.
  template <class Done>
  void run_until(Executor& executor, Done done) {
    for (;;) {
      while (!done() && executor.run_ready(1) > 0) {
      }
      if (done()) return;
      auto due = executor.next_timer();
      if (!due) return;
      if (*due > now_) now_ = *due;
      executor.fire_timers();
    }
  }

 private:
  Time now_{};
};

/// Runs one task to its end, time passing only as far as it must, and gives its value; for tests and offline tools over
/// a device that completes on the same executor.
template <class T>
T run_to_end(ManualClock& clock, Executor& executor, Task<T> task) {
  std::optional<T> value;
  Scope scope(executor);
  auto runner = [](Task<T> inner, std::optional<T>& out) -> Task<void> { out.emplace(co_await inner); };
  scope.spawn(runner(std::move(task), value));
  clock.run_until(executor, [&] { return value.has_value(); });
  CHECK_INVARIANT(value.has_value());
  return std::move(*value);
}

}  // namespace corral
