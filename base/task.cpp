#include "base/task.h"

#include <array>

#include "base/sanitizers.h"

namespace corral {

namespace detail {

#if CORRAL_SANITIZED
void* allocate_frame(std::size_t bytes) {
  return ::operator new(bytes);
}
void free_frame(void* frame, std::size_t bytes) noexcept {
  ::operator delete(frame, bytes);
}
#else
namespace {
constexpr std::size_t kClassBytes = 128;
constexpr std::size_t kClasses = 32;

struct FreeFrame {
  FreeFrame* next;
};
/// One set of lists a thread: the core is single-threaded, tests may run several cores.
struct FramePool {
  std::array<FreeFrame*, kClasses> lists{};
  ~FramePool() {
    for (FreeFrame* frame : lists) {
      while (frame != nullptr)
        ::operator delete(std::exchange(frame, frame->next));
    }
  }
};
thread_local FramePool frame_pool;

constexpr std::size_t class_of(std::size_t bytes) {
  return (bytes + kClassBytes - 1) / kClassBytes;
}
}  // namespace

void* allocate_frame(std::size_t bytes) {
  std::size_t size_class = class_of(bytes);
  if (size_class >= kClasses) return ::operator new(bytes);
  FreeFrame*& list = frame_pool.lists[size_class];
  if (list == nullptr) return ::operator new(size_class * kClassBytes);
  return std::exchange(list, list->next);
}

void free_frame(void* frame, std::size_t bytes) noexcept {
  std::size_t size_class = class_of(bytes);
  if (size_class >= kClasses) return ::operator delete(frame);
  FreeFrame*& list = frame_pool.lists[size_class];
  list = new (frame) FreeFrame{list};
}
#endif

}  // namespace detail

void Waiter::unlink() {
  if (list_ == nullptr) return;
  (previous_ ? previous_->next_ : list_->first_) = next_;
  (next_ ? next_->previous_ : list_->last_) = previous_;
  list_ = nullptr;
  previous_ = next_ = nullptr;
}

void WaitList::push_back(Waiter& waiter) {
  CHECK_INVARIANT(!waiter.linked());
  waiter.list_ = this;
  waiter.previous_ = last_;
  (last_ ? last_->next_ : first_) = &waiter;
  last_ = &waiter;
}

void Timer::cancel() {
  if (executor_ != nullptr) executor_->remove_timer(*this);
}

Executor::~Executor() {
  for (Timer* timer : timers_)
    timer->executor_ = nullptr;
}

void Executor::make_ready(Waiter& waiter) {
  waiter.unlink();
  ready_.push_back(waiter);
}

std::size_t Executor::run_ready(std::size_t limit) {
  std::size_t count = 0;
  while (count < limit && !ready_.empty()) {
    Waiter* waiter = ready_.first();
    waiter->unlink();
    ++count;
    waiter->handle.resume();
  }
  return count;
}

void Executor::fire_timers() {
  Time now = clock_.now();
  while (!timers_.empty() && timers_.front()->due_ <= now) {
    Timer& timer = *timers_.front();
    remove_timer(timer);
    make_ready(*timer.waiter);
  }
}

std::optional<Time> Executor::next_timer() const {
  if (timers_.empty()) return std::nullopt;
  return timers_.front()->due_;
}

void Executor::arm(Timer& timer, Time due) {
  CHECK_INVARIANT(!timer.armed() && timer.waiter != nullptr);
  timer.executor_ = this;
  timer.due_ = due;
  timer.sequence_ = sequence_++;
  timer.index_ = timers_.size();
  timers_.push_back(&timer);
  sift_up(timer.index_);
}

bool Executor::earlier(const Timer& a, const Timer& b) const {
  return a.due_ != b.due_ ? a.due_ < b.due_ : a.sequence_ < b.sequence_;
}

void Executor::remove_timer(Timer& timer) {
  std::size_t index = timer.index_;
  CHECK_INVARIANT(index < timers_.size() && timers_[index] == &timer);
  Timer* last = timers_.back();
  timers_.pop_back();
  if (last != &timer) {
    timers_[index] = last;
    last->index_ = index;
    sift_up(index);
    sift_down(last->index_);
  }
  timer.executor_ = nullptr;
}

void Executor::sift_up(std::size_t index) {
  while (index > 0) {
    std::size_t parent = (index - 1) / 2;
    if (!earlier(*timers_[index], *timers_[parent])) return;
    std::swap(timers_[index], timers_[parent]);
    timers_[index]->index_ = index;
    timers_[parent]->index_ = parent;
    index = parent;
  }
}

void Executor::sift_down(std::size_t index) {
  for (;;) {
    std::size_t least = index;
    for (std::size_t child : {2 * index + 1, 2 * index + 2}) {
      if (child < timers_.size() && earlier(*timers_[child], *timers_[least])) least = child;
    }
    if (least == index) return;
    std::swap(timers_[index], timers_[least]);
    timers_[index]->index_ = index;
    timers_[least]->index_ = least;
    index = least;
  }
}

/// The frame around a spawned task: linked in its Scope, gone when the task ends.
struct Scope::Runner {
  struct promise_type : detail::FrameAllocated {
    Scope& scope;
    Runner* node = nullptr;

    explicit promise_type(Scope& s, Task<void>&) : scope(s) {}
    Runner get_return_object() { return Runner{std::coroutine_handle<promise_type>::from_promise(*this)}; }
    std::suspend_always initial_suspend() noexcept { return {}; }
    std::suspend_never final_suspend() noexcept { return {}; }
    void return_void() noexcept {}
    [[noreturn]] void unhandled_exception() noexcept { std::terminate(); }
    ~promise_type() {
      if (node != nullptr) node->leave(scope);
    }
  };

  std::coroutine_handle<promise_type> frame;
  Runner* previous = nullptr;
  Runner* next = nullptr;

  void leave(Scope& scope) {
    (previous ? previous->next : scope.first_) = next;
    if (next != nullptr) next->previous = previous;
    --scope.running_;
    if (scope.running_ == 0) {
      while (Waiter* joiner = scope.joiners_.first())
        scope.executor_.make_ready(*joiner);
    }
    delete this;
  }
};

Scope::Runner Scope::run(Scope&, Task<void> task) {
  co_await task;
}

void Scope::spawn(Task<void> task) {
  auto* node = new Runner(run(*this, std::move(task)));
  node->frame.promise().node = node;
  node->next = first_;
  if (first_ != nullptr) first_->previous = node;
  first_ = node;
  ++running_;
  node->frame.resume();
}

Scope::~Scope() {
  while (first_ != nullptr)
    first_->frame.destroy();
}

}  // namespace corral
