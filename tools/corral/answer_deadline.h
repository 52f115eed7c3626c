/// No question that a command asks may keep it waiting for ever: neither a disk's answer nor a whole chain of them.
///
/// When the time is up the program says what did not answer, and ends: there is no way to take an operation back from a
/// disk that hangs, and whoever asks for the state of a cluster in trouble must not hang with it.
#pragma once

#include <chrono>
#include <string>
#include <utility>

#include "base/task.h"
#include "disk/forwarding_device.h"

namespace corral {

class AnswerDeadline {
 public:
  /// Exit code of the program that ends because there was no answer.
  static constexpr int kNoAnswer = 5;
  static constexpr Duration kLimit = std::chrono::seconds(10);

  explicit AnswerDeadline(Executor& executor, Duration limit = kLimit) : executor_(executor), limit_(limit) {}

  template <class T>
  Task<T> wait_for(Task<T> work, std::string what) {
    Scope guard(executor_);
    guard.spawn(expire(std::move(what)));
    co_return co_await work;
  }

 private:
  Task<void> expire(std::string what);

  Executor& executor_;
  Duration limit_;
};

/// A device of which each operation has the deadline. Reservations and life locks are the device's own.
class DeadlineDevice final : public ForwardingDevice {
 public:
  /// Both outlive it.
  DeadlineDevice(Device& device, AnswerDeadline& deadline) : ForwardingDevice(device), deadline_(deadline) {}

  using Device::read;
  using Device::write;
  Task<Result<>> read(std::uint64_t offset_bytes, std::span<const ReadSpan> spans) override;
  Task<Result<>> write(std::uint64_t offset_bytes, std::span<const WriteSpan> spans, WriteMode mode) override;
  Task<Result<>> flush() override;
  Task<Result<>> discard(std::uint64_t offset_bytes, std::uint64_t length_bytes) override;

 private:
  AnswerDeadline& deadline_;
};

}  // namespace corral
