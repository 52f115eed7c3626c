/// What coroutines wait for: Event, Mutex, Semaphore, Gate, Signal, Completion. One thread; all queues are first in,
/// first out; a wake-up goes through the executor's ready queue, never by a nested resume. All must outlive their
/// waiters.
#pragma once

#include <cstdint>
#include <optional>
#include <utility>

#include "base/task.h"

namespace corral {

namespace detail {
/// Waits in `list` until somebody makes it ready.
struct ListAwaiter {
  WaitList& list;
  Waiter waiter{};
  bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<> handle) {
    waiter.handle = handle;
    list.push_back(waiter);
  }
  void await_resume() const noexcept {}
};
inline void wake_all(Executor& executor, WaitList& list) {
  while (Waiter* waiter = list.first())
    executor.make_ready(*waiter);
}
}  // namespace detail

/// Something that changes now and then: wait() returns after the next notify(). Re-check the condition in a loop.
class Signal {
 public:
  explicit Signal(Executor& executor) : executor_(executor) {}
  void notify_all() { detail::wake_all(executor_, waiters_); }
  void notify_one() {
    if (Waiter* waiter = waiters_.first()) executor_.make_ready(*waiter);
  }
  bool has_waiters() const { return !waiters_.empty(); }
  auto wait() { return detail::ListAwaiter{waiters_}; }
  /// Waits until notified (true) or until `due` (false).
  auto wait_until(Time due) { return TimedAwaiter{*this, due, {}, {}}; }

 private:
  struct TimedAwaiter {
    Signal& signal;
    Time due;
    Waiter waiter;
    Timer timer;
    bool await_ready() const { return signal.executor_.now() >= due; }
    void await_suspend(std::coroutine_handle<> handle) {
      waiter.handle = handle;
      signal.waiters_.push_back(waiter);
      timer.waiter = &waiter;
      signal.executor_.arm(timer, due);
    }
    /// A fired timer is no longer armed; a notification leaves it armed.
    bool await_resume() { return timer.armed(); }
  };
  Executor& executor_;
  WaitList waiters_;
};

/// Set once (or again after reset): wait() returns when set.
class Event {
 public:
  explicit Event(Executor& executor) : signal_(executor) {}
  bool is_set() const { return set_; }
  void set() {
    set_ = true;
    signal_.notify_all();
  }
  void reset() { set_ = false; }
  Task<void> wait() {
    while (!set_)
      co_await signal_.wait();
  }
  /// True if set before `due`.
  Task<bool> wait_until(Time due) {
    while (!set_) {
      bool notified = co_await signal_.wait_until(due);
      if (!notified) break;
    }
    co_return set_;
  }

 private:
  Signal signal_;
  bool set_ = false;
};

/// Units of something limited. acquire() waits its turn: a large request is not overtaken by small ones.
class Semaphore {
 public:
  Semaphore(Executor& executor, std::uint64_t units) : executor_(executor), available_(units) {}
  std::uint64_t available() const { return available_; }
  bool has_waiters() const { return !queue_.empty(); }
  bool try_acquire(std::uint64_t units = 1) {
    if (!queue_.empty() || available_ < units) return false;
    available_ -= units;
    return true;
  }
  /// co_await semaphore.acquire(n): returns when n units were taken for the caller, who release()s them.
  auto acquire(std::uint64_t units = 1) { return Request{*this, units}; }
  void release(std::uint64_t units = 1) {
    available_ += units;
    grant_in_order();
  }

 private:
  struct Request : Waiter {
    Request(Semaphore& s, std::uint64_t n) : semaphore(s), units(n) {}
    ~Request() {
      if (granted) semaphore.release(units);  // destroyed between the grant and its use
    }
    bool await_ready() { return semaphore.try_acquire(units); }
    void await_suspend(std::coroutine_handle<> waiting) {
      handle = waiting;
      semaphore.queue_.push_back(*this);
    }
    void await_resume() { granted = false; }

    Semaphore& semaphore;
    std::uint64_t units;
    bool granted = false;
  };

  void grant_in_order() {
    while (!queue_.empty()) {
      auto& request = static_cast<Request&>(*queue_.first());
      if (available_ < request.units) return;
      available_ -= request.units;
      request.granted = true;
      executor_.make_ready(request);
    }
  }

  Executor& executor_;
  std::uint64_t available_;
  WaitList queue_;
};

/// Mutual exclusion across suspensions, in order of arrival.
class Mutex {
 public:
  explicit Mutex(Executor& executor) : semaphore_(executor, 1) {}

  /// Holds the mutex until destroyed or released.
  class [[nodiscard]] Guard {
   public:
    explicit Guard(Semaphore* semaphore = nullptr) : semaphore_(semaphore) {}
    Guard(Guard&& other) noexcept : semaphore_(std::exchange(other.semaphore_, nullptr)) {}
    Guard& operator=(Guard&& other) noexcept {
      std::swap(semaphore_, other.semaphore_);
      return *this;
    }
    ~Guard() { release(); }
    void release() {
      if (semaphore_ != nullptr) std::exchange(semaphore_, nullptr)->release();
    }

   private:
    Semaphore* semaphore_;
  };

  bool locked() const { return semaphore_.available() == 0; }
  Task<Guard> lock() {
    co_await semaphore_.acquire();
    co_return Guard(&semaphore_);
  }

 private:
  Semaphore semaphore_;
};

/// Counts work in flight: enter() until closed, then close() waits for the last to leave. The way to shut anything
/// down.
class Gate {
 public:
  explicit Gate(Executor& executor) : left_(executor) {}

  class [[nodiscard]] Pass {
   public:
    explicit Pass(Gate* gate) : gate_(gate) {}
    Pass(Pass&& other) noexcept : gate_(std::exchange(other.gate_, nullptr)) {}
    Pass& operator=(Pass&&) = delete;
    ~Pass() {
      if (gate_ != nullptr) gate_->leave();
    }

   private:
    Gate* gate_;
  };

  bool closed() const { return closed_; }
  std::uint64_t inside() const { return inside_; }
  /// Empty when the gate is closed.
  std::optional<Pass> enter() {
    if (closed_) return std::nullopt;
    ++inside_;
    return Pass(this);
  }
  /// Lets nobody in any more and returns when all have left.
  Task<void> close() {
    closed_ = true;
    while (inside_ != 0)
      co_await left_.wait();
  }

 private:
  void leave() {
    if (--inside_ == 0) left_.notify_all();
  }
  Signal left_;
  std::uint64_t inside_ = 0;
  bool closed_ = false;
};

/// One value handed from whoever produces it to the one coroutine that awaits it: co_await completion.wait().
/// The producer calls set() on the loop's thread, at most once.
template <class T>
class Completion {
 public:
  explicit Completion(Executor& executor) : executor_(executor) {}
  bool is_set() const { return value_.has_value(); }
  void set(T value) {
    CHECK_INVARIANT(!value_);
    value_.emplace(std::move(value));
    if (Waiter* waiter = waiters_.first()) executor_.make_ready(*waiter);
  }
  auto wait() { return Awaiter{*this, {}}; }

 private:
  struct Awaiter {
    Completion& completion;
    Waiter waiter;
    bool await_ready() const { return completion.is_set(); }
    void await_suspend(std::coroutine_handle<> handle) {
      waiter.handle = handle;
      completion.waiters_.push_back(waiter);
    }
    T await_resume() { return std::move(*completion.value_); }
  };
  Executor& executor_;
  WaitList waiters_;
  std::optional<T> value_;
};

}  // namespace corral
