#include "disk/write_gate.h"

#include <utility>

namespace corral {

/// Counted also where the node ends while the device has it.
class WriteGate::Passage {
 public:
  explicit Passage(WriteGate& gate) : gate_(gate) { ++gate_.under_way_; }
  Passage(const Passage&) = delete;
  Passage& operator=(const Passage&) = delete;
  ~Passage() {
    if (--gate_.under_way_ == 0 && gate_.holds_ != 0) gate_.changed_.notify_all();
  }

 private:
  WriteGate& gate_;
};

void WriteGate::shut(Error why) {
  shut_ = std::move(why);
  changed_.notify_all();
}

Task<Result<>> WriteGate::wait_for_opening() {
  while (holds_ != 0 && !shut_)
    co_await changed_.wait();
  if (shut_) co_return std::unexpected(*shut_);
  co_return Result<>{};
}

Task<Result<>> WriteGate::write(std::uint64_t offset_bytes, std::span<const WriteSpan> spans, WriteMode mode) {
  if (!open()) CO_TRY_VOID(co_await wait_for_opening());
  const Passage passage(*this);
  co_return co_await device_.write(offset_bytes, spans, mode);
}

Task<Result<>> WriteGate::discard(std::uint64_t offset_bytes, std::uint64_t length_bytes) {
  if (!open()) CO_TRY_VOID(co_await wait_for_opening());
  const Passage passage(*this);
  co_return co_await device_.discard(offset_bytes, length_bytes);
}

Task<void> WriteGate::Hold::drained() {
  while (gate_.under_way_ != 0)
    co_await gate_.changed_.wait();
}

}  // namespace corral
