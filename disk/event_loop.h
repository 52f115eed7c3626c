/// The production loop around an Executor: one thread runs the ready coroutines, hands their I/O over once per turn and
/// sleeps until a timer, a file descriptor, a signal or another thread wants something. Boost.Asio is the reactor
/// underneath and shows nowhere outside event_loop.cpp.
///
/// A turn: (1) drains that said they had more, (2) due timers and ready coroutines, (3) turn hooks, (4) at most one
/// event of the reactor, for which the loop sleeps only when nothing else is left to do. Idle, it uses no CPU.
///
/// Threads: everything but post() is for the thread that runs the loop. Callbacks run there too, never inside a
/// coroutine; coroutines that they make ready run in the next turn.
///
/// Lifetime: watches, hooks and coroutines that wait on executor() are destroyed before the loop. A process that forks
/// (to become a daemon) does so before it makes its loop.
#pragma once

#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

#include "base/clock.h"
#include "base/result.h"
#include "base/task.h"

namespace corral {

class EventLoop {
 public:
  /// `spin`: how long to look for events before a sleep, where that has lately been worthwhile (adaptive_spin.h).
  explicit EventLoop(Duration spin = Duration::zero());
  ~EventLoop();
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;

  Executor& executor();
  const Clock& clock() const;

  /// Runs turns until stop(). May be called again afterwards.
  void run();
  /// Ends run() after the current turn; called while run() is not active, it ends the next one before its first turn.
  void stop();
  /// Runs the task, and everything else of the loop, until the task ends. For tools; not from within the loop.
  template <class T>
  T run_until_done(Task<T> task);

  /// Runs the function on the loop's thread, in order of posting. Safe from any thread and from callbacks; wakes the
  /// loop. What is still queued when the loop is destroyed is dropped unrun.
  void post(std::function<void()> function);

  /// What a drain left behind.
  enum class Drained {
    all,   ///< read until EAGAIN: call again when the descriptor is readable
    more,  ///< stopped early to let others run: call again in the next turn
  };
  /// Destroying it ends the watch; allowed inside its own callback.
  class Watch {
   public:
    virtual ~Watch() = default;
  };
  /// Calls `drain` while the descriptor is readable, at most once per turn. It becomes non-blocking and stays the
  /// caller's, who closes it after the watch is gone. EPERM for what is always readable (plain files), EEXIST if
  /// watched already.
  Result<std::unique_ptr<Watch>> watch_readable(int descriptor, std::function<Drained()> drain);
  /// Calls `receive` with each of the signals that arrives, in place of their default action.
  Result<std::unique_ptr<Watch>> watch_signals(std::initializer_list<int> signals, std::function<void(int)> receive);

  /// What takes part in every turn, such as a ring that submits a turn's requests together.
  class TurnHook {
   public:
    virtual ~TurnHook() = default;
    /// Called after the coroutines of a turn have run, and while spinning. Must not block or resume coroutines; may
    /// make them ready. True if it must be called again without a sleep in between.
    virtual bool end_turn() = 0;
  };
  void add_hook(TurnHook& hook);
  void remove_hook(TurnHook& hook);

 private:
  struct Impl;
  void run_turns_until(const bool& done);

  std::unique_ptr<Impl> impl_;
};

template <class T>
T EventLoop::run_until_done(Task<T> task) {
  bool done = false;
  Scope scope(executor());
  if constexpr (std::is_void_v<T>) {
    auto runner = [](Task<T> inner, bool& ended) -> Task<void> {
      co_await inner;
      ended = true;
    };
    scope.spawn(runner(std::move(task), done));
    run_turns_until(done);
  } else {
    std::optional<T> value;
    auto runner = [](Task<T> inner, std::optional<T>& out, bool& ended) -> Task<void> {
      out.emplace(co_await inner);
      ended = true;
    };
    scope.spawn(runner(std::move(task), value, done));
    run_turns_until(done);
    return std::move(*value);
  }
}

}  // namespace corral
