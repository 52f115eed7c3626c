#include "base/task.h"

#include <string>
#include <vector>

#include "base/sync.h"
#include "test/support/catch.h"
#include "test/support/manual_clock.h"

using namespace corral;
using namespace std::chrono_literals;

namespace {
Task<int> immediate(int value) {
  co_return value;
}

Task<int> sum_of_many(int count) {
  int sum = 0;
  for (int i = 0; i < count; ++i)
    sum += co_await immediate(1);
  co_return sum;
}

Task<void> store(int& out, int count) {
  out = co_await sum_of_many(count);
}

Task<void> sleeper(Executor& executor, Duration duration, std::string name, std::vector<std::string>& order) {
  co_await executor.sleep_for(duration);
  order.push_back(name);
}
}  // namespace

TEST_CASE("a million awaits that end at once do not grow the stack") {
  ManualClock clock;
  Executor executor(clock);
  Scope scope(executor);
  int result = 0;
  scope.spawn(store(result, 1'000'000));
  REQUIRE(result == 1'000'000);
  REQUIRE(scope.running() == 0);
}

TEST_CASE("timers fire in order of time, then of arming") {
  ManualClock clock;
  Executor executor(clock);
  Scope scope(executor);
  std::vector<std::string> order;
  scope.spawn(sleeper(executor, 20ms, "late", order));
  scope.spawn(sleeper(executor, 10ms, "first", order));
  scope.spawn(sleeper(executor, 10ms, "second", order));
  clock.run_until_idle(executor);
  REQUIRE(order == std::vector<std::string>{"first", "second", "late"});
  REQUIRE(clock.now().time_since_epoch() == 20ms);
}

TEST_CASE("destroying a scope destroys frames that wait, and what they wait in forgets them") {
  ManualClock clock;
  Executor executor(clock);
  std::vector<std::string> order;
  Semaphore semaphore(executor, 1);
  {
    Scope scope(executor);
    scope.spawn(sleeper(executor, 1s, "never", order));
    auto hold = [](Semaphore& s) -> Task<void> {
      co_await s.acquire();
      co_await s.acquire();
    };
    scope.spawn(hold(semaphore));
    REQUIRE(scope.running() == 2);
    REQUIRE(semaphore.has_waiters());
  }
  REQUIRE_FALSE(executor.next_timer().has_value());
  REQUIRE_FALSE(semaphore.has_waiters());
  REQUIRE(order.empty());
}

TEST_CASE("a semaphore serves in order of arrival") {
  ManualClock clock;
  Executor executor(clock);
  Scope scope(executor);
  Semaphore semaphore(executor, 3);
  std::vector<int> order;
  auto take = [](Executor& e, Semaphore& s, std::vector<int>& log, int id, std::uint64_t units) -> Task<void> {
    co_await s.acquire(units);
    log.push_back(id);
    co_await e.sleep_for(1ms);
    s.release(units);
  };
  scope.spawn(take(executor, semaphore, order, 1, 2));
  scope.spawn(take(executor, semaphore, order, 2, 3));
  scope.spawn(take(executor, semaphore, order, 3, 1));
  clock.run_until_idle(executor);
  REQUIRE(order == std::vector<int>{1, 2, 3});
  REQUIRE(semaphore.available() == 3);
}

TEST_CASE("a mutex excludes and a gate waits for the last") {
  ManualClock clock;
  Executor executor(clock);
  Scope scope(executor);
  Mutex mutex(executor);
  Gate gate(executor);
  int inside = 0;
  int most = 0;
  auto work = [](Executor& e, Mutex& m, Gate& g, int& now, int& highest) -> Task<void> {
    auto pass = g.enter();
    auto guard = co_await m.lock();
    highest = std::max(highest, ++now);
    co_await e.sleep_for(1ms);
    --now;
  };
  for (int i = 0; i < 5; ++i)
    scope.spawn(work(executor, mutex, gate, inside, most));
  bool closed = false;
  auto shut = [](Gate& g, bool& done) -> Task<void> {
    co_await g.close();
    done = true;
  };
  scope.spawn(shut(gate, closed));
  REQUIRE_FALSE(closed);
  clock.run_until_idle(executor);
  REQUIRE(closed);
  REQUIRE(most == 1);
  REQUIRE_FALSE(gate.enter().has_value());
}

TEST_CASE("an event waits until set or until its time") {
  ManualClock clock;
  Executor executor(clock);
  Scope scope(executor);
  Event event(executor);
  std::vector<bool> seen;
  auto wait = [](Event& e, Time due, std::vector<bool>& out) -> Task<void> {
    out.push_back(co_await e.wait_until(due));
  };
  scope.spawn(wait(event, clock.now() + 1ms, seen));
  scope.spawn(wait(event, clock.now() + 5ms, seen));
  auto set = [](Executor& ex, Event& e) -> Task<void> {
    co_await ex.sleep_for(2ms);
    e.set();
  };
  scope.spawn(set(executor, event));
  clock.run_until_idle(executor);
  REQUIRE(seen == std::vector<bool>{false, true});
}
