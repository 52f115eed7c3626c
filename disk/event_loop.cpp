#include "disk/event_loop.h"

#include <algorithm>
#include <mutex>
#include <tuple>
#include <vector>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <sys/stat.h>

#include "disk/adaptive_spin.h"

namespace corral {

namespace asio = boost::asio;
using ErrorCode = boost::system::error_code;

namespace {
/// Coroutines resumed between two looks at the reactor: enough to make the look cheap, few enough to keep signals,
/// requests and completions prompt.
constexpr std::size_t kResumesPerTurn = 256;

std::chrono::steady_clock::time_point to_steady(Time time) {
  // Both clocks are CLOCK_MONOTONIC.
  return std::chrono::steady_clock::time_point(time.time_since_epoch());
}

/// Shared with the reactor's pending handler, which may run once more after the watch has gone.
struct ReadState {
  ReadState(asio::io_context& io, std::function<EventLoop::Drained()> function)
      : descriptor(io), drain(std::move(function)) {}
  asio::posix::stream_descriptor descriptor;
  std::function<EventLoop::Drained()> drain;
  bool watched = true;
};

struct SignalState {
  SignalState(asio::io_context& io, std::function<void(int)> function) : signals(io), receive(std::move(function)) {}
  asio::signal_set signals;
  std::function<void(int)> receive;
  bool watched = true;
};

class ReadWatch final : public EventLoop::Watch {
 public:
  explicit ReadWatch(std::shared_ptr<ReadState> state) : state_(std::move(state)) {}
  ~ReadWatch() override {
    state_->watched = false;
    state_->descriptor.release();
  }

 private:
  std::shared_ptr<ReadState> state_;
};

class SignalWatch final : public EventLoop::Watch {
 public:
  explicit SignalWatch(std::shared_ptr<SignalState> state) : state_(std::move(state)) {}
  ~SignalWatch() override {
    state_->watched = false;
    // A failure leaves the signals caught, which nobody is told of any more.
    ErrorCode ignored;
    std::ignore = state_->signals.clear(ignored);
    std::ignore = state_->signals.cancel(ignored);
  }

 private:
  std::shared_ptr<SignalState> state_;
};

void await_signal(std::shared_ptr<SignalState> state) {
  asio::signal_set& signals = state->signals;
  signals.async_wait([state = std::move(state)](const ErrorCode& error, int signal) {
    if (error || !state->watched) return;
    state->receive(signal);
    if (state->watched) await_signal(state);
  });
}
}  // namespace

struct EventLoop::Impl {
  explicit Impl(Duration spin_time) : spin(spin_time) {}

  /// Does not sleep once `done` is set.
  void turn(const bool& done);
  void call_drain(const std::shared_ptr<ReadState>& state);
  bool end_turn();
  void arm_watches();
  void arm_timer();
  bool spin_for_work();
  void run_posted();

  SystemClock clock;
  Executor executor{clock};
  Duration spin;
  AdaptiveSpin adaptive;
  bool stopped = false;
  std::vector<TurnHook*> hooks;

  std::mutex posted_mutex;
  std::vector<std::function<void()>> posted;

  // A hint of 1 keeps post() safe from other threads.
  asio::io_context io{1};
  asio::executor_work_guard<asio::io_context::executor_type> work{io.get_executor()};
  asio::steady_timer timer{io};
  std::optional<Time> timer_due;

  /// Watches that the reactor does not look at: to be armed before the next look, or to be called first.
  std::vector<std::shared_ptr<ReadState>> unarmed;
  std::vector<std::shared_ptr<ReadState>> with_more;
};

void EventLoop::Impl::call_drain(const std::shared_ptr<ReadState>& state) {
  if (!state->watched) return;
  Drained left = state->drain();
  if (state->watched) (left == Drained::more ? with_more : unarmed).push_back(state);
}

bool EventLoop::Impl::end_turn() {
  bool again = false;
  for (TurnHook* hook : hooks)
    again |= hook->end_turn();
  return again;
}

void EventLoop::Impl::arm_watches() {
  for (std::shared_ptr<ReadState>& state : unarmed) {
    if (!state->watched) continue;
    auto& descriptor = state->descriptor;
    descriptor.async_wait(asio::posix::descriptor_base::wait_read,
                          [this, armed = std::move(state)](const ErrorCode& error) {
                            CHECK_INVARIANT(!error || error == asio::error::operation_aborted);
                            call_drain(armed);
                          });
  }
  unarmed.clear();
}

/// The reactor's timer is only ever moved forward: one that fires early costs a turn, moving it costs a system call.
void EventLoop::Impl::arm_timer() {
  std::optional<Time> due = executor.next_timer();
  if (!due || (timer_due && *timer_due <= *due)) return;
  timer_due = due;
  timer.expires_at(to_steady(*due));
  timer.async_wait([this](const ErrorCode& error) {
    if (!error) timer_due.reset();
  });
}

bool EventLoop::Impl::spin_for_work() {
  if (spin == Duration::zero() || !adaptive.worthwhile()) return false;
  Time end = clock.now() + spin;
  bool found = false;
  do {
    found = io.poll_one() > 0 || end_turn() || executor.has_ready();
  } while (!found && clock.now() < end);
  adaptive.came_of_it(found);
  return found;
}

void EventLoop::Impl::turn(const bool& done) {
  for (std::shared_ptr<ReadState>& state : std::exchange(with_more, {}))
    call_drain(state);
  executor.fire_timers();
  executor.run_ready(kResumesPerTurn);
  bool busy = end_turn();
  arm_watches();
  if (done) return;
  if (busy || executor.has_ready() || !with_more.empty()) {
    io.poll_one();
    return;
  }
  arm_timer();
  if (!spin_for_work()) io.run_one();
}

void EventLoop::Impl::run_posted() {
  std::vector<std::function<void()>> functions;
  {
    std::lock_guard lock(posted_mutex);
    functions.swap(posted);
  }
  for (std::function<void()>& function : functions)
    function();
}

EventLoop::EventLoop(Duration spin) : impl_(std::make_unique<Impl>(spin)) {}

EventLoop::~EventLoop() {
  CHECK_INVARIANT(impl_->hooks.empty());
}

Executor& EventLoop::executor() {
  return impl_->executor;
}

const Clock& EventLoop::clock() const {
  return impl_->clock;
}

void EventLoop::run() {
  run_turns_until(impl_->stopped);
  impl_->stopped = false;
}

void EventLoop::stop() {
  impl_->stopped = true;
}

void EventLoop::run_turns_until(const bool& done) {
  while (!done)
    impl_->turn(done);
}

void EventLoop::post(std::function<void()> function) {
  bool first = false;
  {
    std::lock_guard lock(impl_->posted_mutex);
    first = impl_->posted.empty();
    impl_->posted.push_back(std::move(function));
  }
  // One wake-up takes everything posted until it runs.
  if (first) asio::post(impl_->io, [this] { impl_->run_posted(); });
}

Result<std::unique_ptr<EventLoop::Watch>> EventLoop::watch_readable(int descriptor, std::function<Drained()> drain) {
  struct stat status{};
  if (fstat(descriptor, &status) != 0) return fail(errno);
  if (S_ISREG(status.st_mode) || S_ISDIR(status.st_mode)) return fail(EPERM);
  auto state = std::make_shared<ReadState>(impl_->io, std::move(drain));
  ErrorCode error;
  if (state->descriptor.assign(descriptor, error)) return fail(error.value());
  impl_->unarmed.push_back(state);
  return std::make_unique<ReadWatch>(std::move(state));
}

Result<std::unique_ptr<EventLoop::Watch>> EventLoop::watch_signals(std::initializer_list<int> signals,
                                                                   std::function<void(int)> receive) {
  auto state = std::make_shared<SignalState>(impl_->io, std::move(receive));
  for (int signal : signals) {
    ErrorCode error;
    if (state->signals.add(signal, error)) return fail(error.value());
  }
  await_signal(state);
  return std::make_unique<SignalWatch>(std::move(state));
}

void EventLoop::add_hook(TurnHook& hook) {
  impl_->hooks.push_back(&hook);
}

void EventLoop::remove_hook(TurnHook& hook) {
  CHECK_INVARIANT(std::erase(impl_->hooks, &hook) == 1);
}

}  // namespace corral
