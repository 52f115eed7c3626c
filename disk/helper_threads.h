/// Threads for calls that block and that no ring can take (ioctl, FUSE notifications, libraries). They run the call and
/// nothing else: the result goes back to the loop's thread, which alone touches the node's state.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "base/task.h"
#include "disk/event_loop.h"

namespace corral {

class HelperThreads {
 public:
  /// At most `most_threads` calls run at a time, the rest wait in order. Threads start when first needed.
  HelperThreads(EventLoop& loop, std::size_t most_threads);
  /// Waits for the calls that run; drops those that wait. No coroutine may wait in run() any more.
  ~HelperThreads();
  HelperThreads(const HelperThreads&) = delete;
  HelperThreads& operator=(const HelperThreads&) = delete;

  /// Runs `call` on a helper thread and returns on the loop's thread when it has ended. The call owns all it touches,
  /// because it goes on where the waiting frame is destroyed.
  Task<void> run(std::function<void()> call);

 private:
  void enqueue(std::function<void()> job);
  void work();

  EventLoop& loop_;
  const std::size_t most_threads_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> jobs_;
  std::size_t idle_ = 0;
  bool closing_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace corral
