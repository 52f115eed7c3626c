#include "disk/ring.h"

#include <cstring>
#include <utility>

#include <liburing.h>

namespace corral {

namespace {
/// Requests handed over in one go. All of a turn's at once would wait for the last to be prepared, and on a busy device
/// they would then complete together and leave it idle meanwhile; one by one, each costs a system call.
constexpr std::uint64_t kMostPerSubmission = 8;
}  // namespace

struct Ring::Native {
  Native() = default;
  Native(const Native&) = delete;
  Native& operator=(const Native&) = delete;
  ~Native() {
    if (created) io_uring_queue_exit(&ring);
  }
  io_uring ring{};
  bool created = false;
};

/// Suspends until the kernel has completed one request.
struct Ring::Operation {
  Operation(Ring& owner, const RingRequest& what) : ring(owner), request(what) {}
  Operation(const Operation&) = delete;
  Operation& operator=(const Operation&) = delete;
  ~Operation() {
    if (slot != nullptr) slot->operation = nullptr;
  }

  bool await_ready() const { return false; }
  void await_suspend(std::coroutine_handle<> handle) {
    waiter.handle = handle;
    ring.start(*this);
  }
  int await_resume() const { return result; }

  Ring& ring;
  const RingRequest& request;
  Waiter waiter;
  Slot* slot = nullptr;
  int result = 0;
};

Result<std::unique_ptr<Ring>> Ring::open(EventLoop& loop, unsigned depth) {
  auto native = std::make_unique<Native>();
  // A kernel that does not know a flag refuses it; each one only saves work.
  int error = -EINVAL;
  for (unsigned flags : {IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN, IORING_SETUP_COOP_TASKRUN, 0u}) {
    if (error == -EINVAL) error = io_uring_queue_init(depth, &native->ring, flags);
  }
  if (error < 0) {
    return fail(-error,
                "cannot create an io_uring: {}; it needs Linux 5.6 or later, and neither the sysctl "
                "kernel.io_uring_disabled nor a container's seccomp profile may forbid it",
                std::strerror(-error));
  }
  native->created = true;
  std::unique_ptr<Ring> ring(new Ring(loop, std::move(native), depth));
  // The ring's own descriptor is readable while completions wait: no eventfd to read, and none to be told of
  // completions that a turn's end has taken already.
  TRY(ring->watch_, loop.watch_readable(ring->native_->ring.ring_fd, [self = ring.get()] {
    self->reap();
    return EventLoop::Drained::all;
  }));
  return ring;
}

Ring::Ring(EventLoop& loop, std::unique_ptr<Native> native, unsigned depth)
    : loop_(loop), native_(std::move(native)), free_(loop.executor(), depth), drained_(loop.executor()), slots_(depth) {
  for (std::uint32_t index = depth; index-- > 0;)
    free_slots_.push_back(index);
  loop_.add_hook(*this);
}

Ring::~Ring() {
  loop_.remove_hook(*this);
  watch_.reset();
  for (const Slot& slot : slots_)
    CHECK_INVARIANT(slot.operation == nullptr);
  while (in_flight_ > 0) {
    unsubmitted_ = 0;
    io_uring_submit_and_wait(&native_->ring, 1);
    reap();
  }
}

Task<int> Ring::perform(RingRequest request) {
  co_await free_.acquire();
  co_return co_await Operation(*this, request);
}

Task<void> Ring::drain() {
  while (in_flight_ > 0)
    co_await drained_.wait();
}

void Ring::start(Operation& operation) {
  std::uint32_t index = free_slots_.back();
  free_slots_.pop_back();
  Slot& slot = slots_[index];
  slot.operation = &operation;
  operation.slot = &slot;

  const RingRequest& request = operation.request;
  slot.vectors.assign(request.vectors.begin(), request.vectors.end());
  const iovec* vectors = slot.vectors.data();
  const auto count = static_cast<unsigned>(slot.vectors.size());
  // There is an entry for every slot.
  io_uring_sqe* entry = io_uring_get_sqe(&native_->ring);
  CHECK_INVARIANT(entry != nullptr);
  const bool writing = request.kind != RingRequest::Kind::read;
  if (request.kind == RingRequest::Kind::sync) {
    io_uring_prep_fsync(entry, request.descriptor, IORING_FSYNC_DATASYNC);
  } else if (count == 1) {
    io_uring_prep_rw(writing ? IORING_OP_WRITE : IORING_OP_READ, entry, request.descriptor, vectors->iov_base,
                     static_cast<unsigned>(vectors->iov_len), request.offset_bytes);
  } else {
    io_uring_prep_rw(writing ? IORING_OP_WRITEV : IORING_OP_READV, entry, request.descriptor, vectors, count,
                     request.offset_bytes);
  }
  if (request.kind == RingRequest::Kind::write_through) entry->rw_flags = RWF_DSYNC;
  io_uring_sqe_set_data64(entry, index);
  ++unsubmitted_;
  ++in_flight_;
  ++requests_;
  if (unsubmitted_ >= kMostPerSubmission) submit();
}

bool Ring::end_turn() {
  if (unsubmitted_ > 0) submit();
  reap();
  return unsubmitted_ > 0;
}

void Ring::submit() {
  int taken = io_uring_submit(&native_->ring);
  ++submissions_;
  // The kernel takes fewer, or none, when it is short of memory; the rest stays queued for the next turn.
  CHECK_INVARIANT(taken >= 0 || taken == -EAGAIN || taken == -EBUSY || taken == -EINTR);
  if (taken > 0) unsubmitted_ -= static_cast<std::uint64_t>(taken);
}

void Ring::reap() {
  unsigned head = 0;
  unsigned count = 0;
  io_uring_cqe* completion = nullptr;
  io_uring_for_each_cqe(&native_->ring, head, completion) {
    auto index = static_cast<std::uint32_t>(io_uring_cqe_get_data64(completion));
    Slot& slot = slots_[index];
    if (slot.operation != nullptr) {
      slot.operation->result = completion->res;
      slot.operation->slot = nullptr;
      loop_.executor().make_ready(slot.operation->waiter);
      slot.operation = nullptr;
    }
    free_slots_.push_back(index);
    ++count;
  }
  if (count == 0) return;
  io_uring_cq_advance(&native_->ring, count);
  in_flight_ -= count;
  free_.release(count);
  if (in_flight_ == 0) drained_.notify_all();
}

}  // namespace corral
