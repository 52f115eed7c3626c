#include "disk/event_loop.h"

#include <array>
#include <atomic>
#include <csignal>
#include <string>
#include <thread>
#include <vector>

#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/sync.h"
#include "disk/helper_threads.h"
#include "test/support/catch.h"

using namespace corral;
using namespace std::chrono_literals;

namespace {
Task<int> slow_sum(Executor& executor, int a, int b) {
  co_await executor.sleep_for(5ms);
  co_await executor.yield();
  co_return a + b;
}

Task<void> sleep_for(Executor& executor, Duration duration) {
  co_await executor.sleep_for(duration);
}

Task<void> sleep_and_note(Executor& executor, Duration duration, int id, std::vector<int>& order) {
  co_await executor.sleep_for(duration);
  order.push_back(id);
}

Task<void> yield_until(Executor& executor, const bool& done, long& turns) {
  while (!done) {
    ++turns;
    co_await executor.yield();
  }
}

Task<void> stop_after(EventLoop& loop, Duration duration) {
  co_await loop.executor().sleep_for(duration);
  loop.stop();
}

Task<void> wait_for(Event& event) {
  co_await event.wait();
}

Duration cpu_time() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  auto duration = [](timeval t) { return std::chrono::seconds(t.tv_sec) + std::chrono::microseconds(t.tv_usec); };
  return duration(usage.ru_utime) + duration(usage.ru_stime);
}

struct Pipe {
  Pipe() { REQUIRE(pipe(ends.data()) == 0); }
  ~Pipe() {
    close(ends[0]);
    close(ends[1]);
  }
  void put(const std::string& text) {
    REQUIRE(write(ends[1], text.data(), text.size()) == static_cast<ssize_t>(text.size()));
  }
  std::array<int, 2> ends{};
};
}  // namespace

TEST_CASE("run_until_done gives the task's value and time has passed") {
  EventLoop loop;
  Time before = loop.clock().now();
  REQUIRE(loop.run_until_done(slow_sum(loop.executor(), 20, 22)) == 42);
  REQUIRE(loop.clock().now() - before >= 5ms);
  loop.run_until_done(sleep_for(loop.executor(), 1ms));
  REQUIRE(loop.clock().now() - before >= 6ms);
}

TEST_CASE("timers fire in order, also when an earlier one is set later") {
  EventLoop loop;
  std::vector<int> order;
  Scope scope(loop.executor());
  scope.spawn(sleep_and_note(loop.executor(), 30ms, 3, order));
  scope.spawn(sleep_and_note(loop.executor(), 10ms, 1, order));
  scope.spawn(sleep_and_note(loop.executor(), 20ms, 2, order));
  scope.spawn(stop_after(loop, 40ms));
  loop.run();
  REQUIRE(order == std::vector<int>{1, 2, 3});
}

TEST_CASE("stop before run ends the next run only") {
  EventLoop loop;
  loop.stop();
  loop.run();
  Scope scope(loop.executor());
  Time before = loop.clock().now();
  scope.spawn(stop_after(loop, 5ms));
  loop.run();
  REQUIRE(loop.clock().now() - before >= 5ms);
}

TEST_CASE("stop during run_until_done neither ends nor spins it") {
  EventLoop loop;
  Scope scope(loop.executor());
  scope.spawn(stop_after(loop, 1ms));
  Duration before = cpu_time();
  REQUIRE(loop.run_until_done(slow_sum(loop.executor(), 1, 2)) == 3);
  loop.run_until_done(sleep_for(loop.executor(), 200ms));
  REQUIRE(cpu_time() - before < 100ms);
}

TEST_CASE("no post from any thread is lost, and each thread's posts keep their order") {
  constexpr int kThreads = 4;
  constexpr int kPosts = 20'000;
  EventLoop loop;
  std::array<int, kThreads> next{};
  bool in_order = true;
  int total = 0;
  std::vector<std::thread> threads;
  for (int id = 0; id < kThreads; ++id) {
    threads.emplace_back([&, id] {
      for (int i = 0; i < kPosts; ++i) {
        loop.post([&, id, i] {
          in_order &= next[static_cast<std::size_t>(id)]++ == i;
          if (++total == kThreads * kPosts) loop.stop();
        });
        if (i % 1000 == 0) std::this_thread::yield();
      }
    });
  }
  loop.run();
  for (std::thread& thread : threads)
    thread.join();
  REQUIRE(in_order);
  REQUIRE(total == kThreads * kPosts);
}

TEST_CASE("a post wakes a loop that sleeps, every time") {
  EventLoop loop;
  std::atomic<int> seen = 0;
  std::thread poster([&] {
    for (int i = 0; i < 2000; ++i) {
      loop.post([&] { seen.fetch_add(1); });
      while (seen.load() != i + 1)
        std::this_thread::yield();  // a lost wake-up stops here for ever
    }
    loop.post([&] { loop.stop(); });
  });
  loop.run();
  poster.join();
  REQUIRE(seen == 2000);
}

TEST_CASE("a post from the loop's own thread runs in a later turn") {
  EventLoop loop;
  std::vector<int> order;
  loop.post([&] {
    loop.post([&] {
      order.push_back(2);
      loop.stop();
    });
    order.push_back(1);
  });
  loop.run();
  REQUIRE(order == std::vector<int>{1, 2});
}

TEST_CASE("a watch drains what is readable, in parts if it wants, and sees what comes later") {
  EventLoop loop;
  Pipe pipe;
  std::string received;
  int calls = 0;
  auto watch = loop.watch_readable(pipe.ends[0], [&] {
    ++calls;
    char byte = 0;
    if (read(pipe.ends[0], &byte, 1) != 1) {
      REQUIRE(errno == EAGAIN);
      return EventLoop::Drained::all;
    }
    received += byte;
    if (byte == '!') loop.stop();
    return EventLoop::Drained::more;
  });
  REQUIRE(watch.has_value());
  pipe.put("hello!");
  loop.run();
  REQUIRE(received == "hello!");
  REQUIRE(calls == 6);

  std::thread writer([&] {
    std::this_thread::sleep_for(2ms);
    pipe.put("later!");
  });
  loop.run();
  writer.join();
  REQUIRE(received == "hello!later!");
}

TEST_CASE("a drain that leaves bytes behind but says all is called again") {
  EventLoop loop;
  Pipe pipe;
  int calls = 0;
  auto watch = loop.watch_readable(pipe.ends[0], [&] {
    if (++calls == 3) loop.stop();
    return EventLoop::Drained::all;
  });
  pipe.put("x");
  loop.run();
  REQUIRE(calls == 3);
}

TEST_CASE("a descriptor that is always readable starves neither coroutines nor timers nor posts") {
  EventLoop loop;
  int event = eventfd(1, 0);
  long drains = 0;
  auto watch = loop.watch_readable(event, [&] {
    ++drains;
    return EventLoop::Drained::more;
  });
  bool posted = false;
  bool done = false;
  long turns = 0;
  loop.post([&] { posted = true; });
  Scope scope(loop.executor());
  scope.spawn(yield_until(loop.executor(), done, turns));
  scope.spawn(stop_after(loop, 20ms));
  loop.run();
  done = true;
  REQUIRE(posted);
  REQUIRE(drains > 1);
  REQUIRE(turns > 1);
  loop.run_until_done(sleep_for(loop.executor(), 1ms));
  watch->reset();
  close(event);
}

TEST_CASE("a watch may be destroyed in its own callback, and the descriptor watched anew") {
  EventLoop loop;
  Pipe pipe;
  pipe.put("x");
  int first = 0;
  int second = 0;
  std::unique_ptr<EventLoop::Watch> watch;
  auto made = loop.watch_readable(pipe.ends[0], [&] {
    ++first;
    watch.reset();
    return EventLoop::Drained::more;
  });
  watch = std::move(*made);
  auto twice = loop.watch_readable(pipe.ends[0], [] { return EventLoop::Drained::all; });
  REQUIRE(twice.error().code() == EEXIST);
  loop.run_until_done(sleep_for(loop.executor(), 2ms));
  REQUIRE(first == 1);
  auto again = loop.watch_readable(pipe.ends[0], [&] {
    ++second;
    loop.stop();
    return EventLoop::Drained::more;
  });
  loop.run();
  REQUIRE(first == 1);
  REQUIRE(second == 1);
}

TEST_CASE("what cannot be watched is refused") {
  EventLoop loop;
  auto never = [] { return EventLoop::Drained::all; };
  REQUIRE(loop.watch_readable(-1, never).error().code() == EBADF);
  FILE* file = std::tmpfile();
  REQUIRE(loop.watch_readable(fileno(file), never).error().code() == EPERM);
  std::fclose(file);
}

TEST_CASE("signals arrive as callbacks, more than once, until the watch is gone") {
  EventLoop loop;
  std::vector<int> seen;
  auto watch = loop.watch_signals({SIGUSR1, SIGUSR2}, [&](int signal) {
    seen.push_back(signal);
    if (seen.size() == 1) raise(SIGUSR2);
    if (seen.size() == 2) loop.stop();
  });
  REQUIRE(watch.has_value());
  raise(SIGUSR1);
  loop.run();
  REQUIRE(seen == std::vector<int>{SIGUSR1, SIGUSR2});
  watch->reset();
  struct sigaction action{};
  REQUIRE(sigaction(SIGUSR1, nullptr, &action) == 0);
  REQUIRE(action.sa_handler == SIG_DFL);
  REQUIRE(loop.watch_signals({SIGKILL}, [](int) {}).error().code() == EINVAL);
}

TEST_CASE("an idle loop uses no CPU") {
  EventLoop loop;
  Pipe pipe;
  auto watch = loop.watch_readable(pipe.ends[0], [] { return EventLoop::Drained::all; });
  Scope scope(loop.executor());
  scope.spawn(stop_after(loop, 300ms));
  Duration before = cpu_time();
  loop.run();
  REQUIRE(cpu_time() - before < 30ms);
}

namespace {
/// Counts turns and asks for the next ones without sleep as long as it is told to.
struct CountingHook final : EventLoop::TurnHook {
  bool end_turn() override {
    ++calls;
    return calls < wanted;
  }
  int calls = 0;
  int wanted = 0;
};
}  // namespace

TEST_CASE("a hook that wants more turns gets them without a wake-up") {
  EventLoop loop;
  CountingHook hook;
  hook.wanted = 10;
  loop.add_hook(hook);
  loop.run_until_done(sleep_for(loop.executor(), 5ms));
  loop.remove_hook(hook);
  REQUIRE(hook.calls >= 10);
  REQUIRE(hook.calls < 20);
}

TEST_CASE("a spinning loop calls its hooks before it sleeps and still meets its timers") {
  EventLoop loop(2ms);
  CountingHook hook;
  loop.add_hook(hook);
  Time before = loop.clock().now();
  loop.run_until_done(sleep_for(loop.executor(), 10ms));
  loop.remove_hook(hook);
  REQUIRE(loop.clock().now() - before >= 10ms);
  REQUIRE(hook.calls > 10);
}

TEST_CASE("a loop goes away with watches fired, posts queued and timers set") {
  Pipe pipe;
  bool ran = false;
  {
    EventLoop loop;
    pipe.put("x");
    auto watch = loop.watch_readable(pipe.ends[0], [] { return EventLoop::Drained::all; });
    auto signal = loop.watch_signals({SIGUSR1}, [](int) {});
    loop.run_until_done(sleep_for(loop.executor(), 1ms));
    Scope scope(loop.executor());
    scope.spawn(sleep_for(loop.executor(), 1h));
    loop.post([&] { ran = true; });
  }
  REQUIRE_FALSE(ran);
}

namespace {
Task<std::thread::id> thread_of_call(HelperThreads& helpers) {
  auto id = std::make_shared<std::thread::id>();
  co_await helpers.run([id] { *id = std::this_thread::get_id(); });
  co_return *id;
}

Task<void> count_call(HelperThreads& helpers, std::atomic<int>& running, std::atomic<int>& most, int& ended) {
  co_await helpers.run([&running, &most] {
    int now = running.fetch_add(1) + 1;
    int seen = most.load();
    while (seen < now && !most.compare_exchange_weak(seen, now)) {
    }
    std::this_thread::sleep_for(1ms);
    running.fetch_sub(1);
  });
  ++ended;
}

Task<void> join(Scope& scope) {
  co_await scope.join();
}
}  // namespace

TEST_CASE("helper threads run calls beside the loop, no more at a time than allowed") {
  EventLoop loop;
  HelperThreads helpers(loop, 3);
  REQUIRE(loop.run_until_done(thread_of_call(helpers)) != std::this_thread::get_id());
  std::atomic<int> running = 0;
  std::atomic<int> most = 0;
  int ended = 0;
  Scope scope(loop.executor());
  for (int i = 0; i < 20; ++i)
    scope.spawn(count_call(helpers, running, most, ended));
  loop.run_until_done(join(scope));
  REQUIRE(ended == 20);
  REQUIRE(most <= 3);
  REQUIRE(most >= 2);
}

TEST_CASE("a frame may be destroyed while its call runs on a helper thread") {
  EventLoop loop;
  std::atomic<int> running = 0;
  std::atomic<int> most = 0;
  int ended = 0;
  {
    HelperThreads helpers(loop, 1);
    {
      Scope scope(loop.executor());
      for (int i = 0; i < 3; ++i)
        scope.spawn(count_call(helpers, running, most, ended));
    }
  }
  Event never(loop.executor());
  Scope scope(loop.executor());
  scope.spawn(wait_for(never));
  loop.run_until_done(sleep_for(loop.executor(), 2ms));
  REQUIRE(ended == 0);
  REQUIRE(running == 0);
}
