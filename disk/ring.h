/// One io_uring, owned by the thread of an EventLoop: takes the requests of a turn, submits them together at the turn's
/// end, and makes their coroutines ready when the kernel has completed them.
///
/// Memory named by a request stays valid until the request has completed, even where the waiting frame is destroyed;
/// the list of vectors itself may go as soon as the coroutine is suspended. Destroying the ring waits (blocking) until
/// the kernel is done with everything; no coroutine may wait on it then.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include <sys/uio.h>

#include "base/result.h"
#include "base/sync.h"
#include "base/task.h"
#include "disk/event_loop.h"

namespace corral {

/// What the kernel is to do.
struct RingRequest {
  enum class Kind {
    read,
    write,
    write_through,  ///< RWF_DSYNC
    sync,           ///< fdatasync
  };
  Kind kind = Kind::read;
  int descriptor = -1;
  std::uint64_t offset_bytes = 0;
  std::span<const iovec> vectors{};  ///< at most IOV_MAX
};

class Ring final : private EventLoop::TurnHook {
 public:
  /// At most `depth` requests are with the kernel at a time, the rest wait in order. Must be called on the loop's
  /// thread.
  static Result<std::unique_ptr<Ring>> open(EventLoop& loop, unsigned depth);
  ~Ring() override;

  /// The bytes moved, or a negative errno, as the system call would give it.
  Task<int> perform(RingRequest request);
  /// Returns when nothing is with the kernel any more.
  Task<void> drain();

  std::uint64_t in_flight() const { return in_flight_; }
  /// System calls made to submit, and requests submitted by them.
  std::uint64_t submissions() const { return submissions_; }
  std::uint64_t requests() const { return requests_; }

 private:
  struct Operation;
  struct Slot {
    Operation* operation = nullptr;  ///< null where the waiting frame was destroyed
    std::vector<iovec> vectors;      ///< the kernel's until completion
  };
  struct Native;

  Ring(EventLoop& loop, std::unique_ptr<Native> native, unsigned depth);
  void start(Operation& operation);
  bool end_turn() override;
  void submit();
  void reap();

  EventLoop& loop_;
  std::unique_ptr<Native> native_;
  Semaphore free_;
  Signal drained_;
  std::vector<Slot> slots_;
  std::vector<std::uint32_t> free_slots_;
  std::uint64_t unsubmitted_ = 0;
  std::uint64_t in_flight_ = 0;
  std::uint64_t submissions_ = 0;
  std::uint64_t requests_ = 0;
  std::unique_ptr<EventLoop::Watch> watch_;
};

}  // namespace corral
