/// Coroutines of the core: Task<T> (lazy, one thread), Executor (ready queue and timers), Scope (owner of running
/// tasks).
///
/// A Task runs when it is awaited, in place on the awaiter's stack; if it ends without waiting nothing is suspended.
/// There is no symmetric transfer, so the stack's depth is bounded by the depth of calls with every compiler.
///
/// Rules: parameters by value, or references to objects that live longer than the coroutine; no capturing lambda
/// coroutines; whatever was read before a co_await may have changed after it. A frame may be destroyed while it waits
/// (a node's death in the simulator): everything that waits unlinks itself in its destructor.
#pragma once

#include <coroutine>
#include <cstddef>
#include <exception>
#include <new>
#include <optional>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/clock.h"

namespace corral {

namespace detail {
/// Frames come from free lists by size class (plain new under sanitizers, which then see every use after free).
void* allocate_frame(std::size_t bytes);
void free_frame(void* frame, std::size_t bytes) noexcept;

struct FrameAllocated {
  static void* operator new(std::size_t bytes) { return allocate_frame(bytes); }
  static void operator delete(void* frame, std::size_t bytes) noexcept { free_frame(frame, bytes); }
};

struct PromiseBase : FrameAllocated {
  std::coroutine_handle<> continuation;

  struct FinalAwaiter {
    bool await_ready() noexcept { return false; }
    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> self) noexcept {
      // The parent may destroy this frame while it runs: nothing may follow the resume.
      if (std::coroutine_handle<> parent = self.promise().continuation) parent.resume();
    }
    void await_resume() noexcept {}
  };
  std::suspend_always initial_suspend() noexcept { return {}; }
  FinalAwaiter final_suspend() noexcept { return {}; }
  /// Exceptions are for bugs and lack of memory only: neither can be handled halfway through a transaction.
  [[noreturn]] void unhandled_exception() noexcept { std::terminate(); }
};

template <class T>
struct Promise : PromiseBase {
  std::optional<T> value;
  template <class U = T>
  void return_value(U&& result) {
    value.emplace(std::forward<U>(result));
  }
  T take() { return std::move(*value); }
};
template <>
struct Promise<void> : PromiseBase {
  void return_void() noexcept {}
  void take() {}
};
}  // namespace detail

/// A lazily started coroutine that gives one T. Owns its frame; awaited at most once.
template <class T = void>
class [[nodiscard]] Task {
 public:
  struct promise_type : detail::Promise<T> {
    Task get_return_object() { return Task(std::coroutine_handle<promise_type>::from_promise(*this)); }
  };

  Task(Task&& other) noexcept : frame_(std::exchange(other.frame_, {})) {}
  Task& operator=(Task&& other) noexcept {
    std::swap(frame_, other.frame_);
    return *this;
  }
  ~Task() {
    if (frame_) frame_.destroy();
  }

  bool await_ready() const noexcept { return false; }
  bool await_suspend(std::coroutine_handle<> parent) {
    frame_.resume();
    if (frame_.done()) return false;
    frame_.promise().continuation = parent;
    return true;
  }
  T await_resume() { return frame_.promise().take(); }

 private:
  explicit Task(std::coroutine_handle<promise_type> frame) : frame_(frame) {}
  std::coroutine_handle<promise_type> frame_;
};

class WaitList;

/// One suspended coroutine in at most one WaitList. Lives in an awaiter; leaves its list when destroyed.
class Waiter {
 public:
  Waiter() = default;
  Waiter(const Waiter&) = delete;
  Waiter& operator=(const Waiter&) = delete;
  ~Waiter() { unlink(); }

  void unlink();
  bool linked() const { return list_ != nullptr; }
  std::coroutine_handle<> handle;

 private:
  friend class WaitList;
  WaitList* list_ = nullptr;
  Waiter* previous_ = nullptr;
  Waiter* next_ = nullptr;
};

/// First-in first-out list of waiters.
class WaitList {
 public:
  WaitList() = default;
  WaitList(const WaitList&) = delete;
  WaitList& operator=(const WaitList&) = delete;
  ~WaitList() { CHECK_INVARIANT(empty()); }

  bool empty() const { return first_ == nullptr; }
  Waiter* first() const { return first_; }
  /// The one behind a waiter of this list.
  static Waiter* after(const Waiter& waiter) { return waiter.next_; }
  void push_back(Waiter& waiter);

 private:
  friend class Waiter;
  Waiter* first_ = nullptr;
  Waiter* last_ = nullptr;
};

/// A point on the time line at which a coroutine is made ready. Lives in an awaiter; leaves the heap when destroyed.
class Timer {
 public:
  Timer() = default;
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;
  ~Timer() { cancel(); }
  void cancel();
  bool armed() const { return executor_ != nullptr; }
  /// Made ready when the time comes (unlinked from any list it waits in).
  Waiter* waiter = nullptr;

 private:
  friend class Executor;
  class Executor* executor_ = nullptr;
  std::size_t index_ = 0;
  Time due_{};
  std::uint64_t sequence_ = 0;
};

/// Runs coroutines one at a time: a ready queue (first in, first out) and timers ordered by time, then by when they
/// were set. The loop around it (production reactor or simulator) calls run_ready() and tells it when time has passed.
class Executor {
 public:
  explicit Executor(const Clock& clock) : clock_(clock) {}
  Executor(const Executor&) = delete;
  Executor& operator=(const Executor&) = delete;
  ~Executor();

  const Clock& clock() const { return clock_; }
  Time now() const { return clock_.now(); }

  /// Moves the waiter from whatever list it is in to the end of the ready queue.
  void make_ready(Waiter& waiter);
  /// True if something is ready to run.
  bool has_ready() const { return !ready_.empty(); }
  /// Resumes what is ready, and what that makes ready, at most `limit` coroutines; returns how many.
  std::size_t run_ready(std::size_t limit = 1024);
  /// Makes ready every waiter whose timer is due at clock().now().
  void fire_timers();
  /// When the earliest timer is due, if there is one.
  std::optional<Time> next_timer() const;
  void arm(Timer& timer, Time due);

  /// co_await executor.sleep_until(t)
  auto sleep_until(Time due) { return SleepAwaiter{*this, due, {}, {}}; }
  auto sleep_for(Duration duration) { return sleep_until(now() + duration); }
  /// co_await executor.yield(): goes to the end of the ready queue.
  auto yield() { return YieldAwaiter{*this, {}}; }

 private:
  struct SleepAwaiter {
    Executor& executor;
    Time due;
    Waiter waiter;
    Timer timer;
    bool await_ready() const { return executor.now() >= due; }
    void await_suspend(std::coroutine_handle<> handle) {
      waiter.handle = handle;
      timer.waiter = &waiter;
      executor.arm(timer, due);
    }
    void await_resume() const {}
  };
  struct YieldAwaiter {
    Executor& executor;
    Waiter waiter;
    bool await_ready() const { return false; }
    void await_suspend(std::coroutine_handle<> handle) {
      waiter.handle = handle;
      executor.make_ready(waiter);
    }
    void await_resume() const {}
  };

  friend class Timer;
  bool earlier(const Timer& a, const Timer& b) const;
  void remove_timer(Timer& timer);
  void sift_up(std::size_t index);
  void sift_down(std::size_t index);

  const Clock& clock_;
  WaitList ready_;
  std::vector<Timer*> timers_;
  std::uint64_t sequence_ = 0;
};

/// Owns coroutines that run on their own. Destroying it destroys their frames wherever they wait.
class Scope {
 public:
  explicit Scope(Executor& executor) : executor_(executor) {}
  Scope(const Scope&) = delete;
  Scope& operator=(const Scope&) = delete;
  ~Scope();

  /// Runs the task in place until it waits for the first time, then keeps it until it ends.
  void spawn(Task<void> task);
  /// Number of tasks that have not ended.
  std::size_t running() const { return running_; }
  /// co_await scope.join(): returns when no task is left.
  auto join() { return JoinAwaiter{*this, {}}; }
  Executor& executor() { return executor_; }

 private:
  struct Runner;
  struct JoinAwaiter {
    Scope& scope;
    Waiter waiter;
    bool await_ready() const { return scope.running_ == 0; }
    void await_suspend(std::coroutine_handle<> handle) {
      waiter.handle = handle;
      scope.joiners_.push_back(waiter);
    }
    void await_resume() const {}
  };
  static Runner run(Scope& scope, Task<void> task);

  Executor& executor_;
  std::size_t running_ = 0;
  Runner* first_ = nullptr;
  WaitList joiners_;
};

}  // namespace corral
