#include "disk/helper_threads.h"

#include <csignal>
#include <memory>
#include <utility>

#include "base/sync.h"

namespace corral {

HelperThreads::HelperThreads(EventLoop& loop, std::size_t most_threads) : loop_(loop), most_threads_(most_threads) {
  CHECK_INVARIANT(most_threads > 0);
}

HelperThreads::~HelperThreads() {
  {
    std::lock_guard lock(mutex_);
    closing_ = true;
    jobs_.clear();
  }
  wake_.notify_all();
  for (std::thread& thread : threads_)
    thread.join();
}

Task<void> HelperThreads::run(std::function<void()> call) {
  auto ended = std::make_shared<Event>(loop_.executor());
  enqueue([this, call = std::move(call), ended]() mutable {
    call();
    call = nullptr;
    loop_.post([ended = std::move(ended)] { ended->set(); });
  });
  co_await ended->wait();
}

void HelperThreads::enqueue(std::function<void()> job) {
  std::lock_guard lock(mutex_);
  jobs_.push_back(std::move(job));
  if (idle_ >= jobs_.size() || threads_.size() == most_threads_) {
    wake_.notify_one();
    return;
  }
  // Signals are for the loop's thread.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  threads_.emplace_back([this] { work(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

void HelperThreads::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    ++idle_;
    wake_.wait(lock, [this] { return closing_ || !jobs_.empty(); });
    --idle_;
    if (closing_) return;
    std::function<void()> job = std::move(jobs_.front());
    jobs_.pop_front();
    lock.unlock();
    job();
    job = nullptr;
    lock.lock();
  }
}

}  // namespace corral
