#include "tools/corral/answer_deadline.h"

#include <cstdio>

#include <fmt/format.h>
#include <unistd.h>

namespace corral {

Task<void> AnswerDeadline::expire(std::string what) {
  co_await executor_.sleep_for(limit_);
  fmt::print(stderr, "corral: no answer within {} s: {}\n", limit_ / std::chrono::seconds(1), what);
  std::fflush(nullptr);
  _exit(kNoAnswer);
}

Task<Result<>> DeadlineDevice::read(std::uint64_t offset_bytes, std::span<const ReadSpan> spans) {
  co_return co_await deadline_.wait_for(device_.read(offset_bytes, spans),
                                        fmt::format("{}: reading at byte {}", name(), offset_bytes));
}

Task<Result<>> DeadlineDevice::write(std::uint64_t offset_bytes, std::span<const WriteSpan> spans, WriteMode mode) {
  co_return co_await deadline_.wait_for(device_.write(offset_bytes, spans, mode),
                                        fmt::format("{}: writing at byte {}", name(), offset_bytes));
}

Task<Result<>> DeadlineDevice::flush() {
  co_return co_await deadline_.wait_for(device_.flush(), fmt::format("{}: flushing its cache", name()));
}

Task<Result<>> DeadlineDevice::discard(std::uint64_t offset_bytes, std::uint64_t length_bytes) {
  co_return co_await deadline_.wait_for(device_.discard(offset_bytes, length_bytes),
                                        fmt::format("{}: discarding at byte {}", name(), offset_bytes));
}

}  // namespace corral
