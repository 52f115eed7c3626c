#include "journal/log_reader.h"

#include <algorithm>

namespace corral {

void LogReader::request(std::uint32_t first_block, std::uint32_t count) {
  CHECK_INVARIANT(count <= journal_.map.size_blocks());
  const std::uint32_t most = std::max(1u, kChunkBytes >> journal_.geometry.block_shift());
  while (count > 0) {
    const std::uint32_t length = std::min({count, most, journal_.map.run_at(first_block).length});
    wanted_.push_back({first_block, length});
    first_block = journal_.forward(first_block, length);
    count -= length;
  }
}

void LogReader::run_ahead() {
  while (in_use_ < slots_.size() && !wanted_.empty()) {
    Slot& slot = slots_[(first_ + in_use_++) % slots_.size()];
    slot.piece = wanted_.front();
    wanted_.pop_front();
    slot.done = false;
    const std::size_t bytes = std::size_t{slot.piece.count} << journal_.geometry.block_shift();
    if (slot.buffer.size() < bytes) slot.buffer = AlignedBuffer(bytes, false);
    reads_.spawn(fetch(slot));
  }
}

Task<void> LogReader::fetch(Slot& slot) {
  const std::size_t bytes = std::size_t{slot.piece.count} << journal_.geometry.block_shift();
  slot.result =
      co_await journal_.device.read(journal_.offset_bytes(slot.piece.first_block), slot.buffer.span().first(bytes));
  slot.done = true;
  ready_.notify_all();
}

Task<Result<LogReader::Chunk>> LogReader::next() {
  if (std::exchange(lent_, false)) {
    first_ = (first_ + 1) % slots_.size();
    --in_use_;
  }
  run_ahead();
  if (in_use_ == 0) co_return Chunk{};
  Slot& slot = slots_[first_];
  while (!slot.done)
    co_await ready_.wait();
  lent_ = true;
  if (!slot.result)
    co_return std::unexpected(slot.result.error().within(
        fmt::format("reading journal block {} of {}", slot.piece.first_block, journal_.device.name())));
  co_return Chunk{slot.piece.first_block,
                  slot.buffer.span().first(std::size_t{slot.piece.count} << journal_.geometry.block_shift())};
}

Task<void> LogReader::stop() {
  wanted_.clear();
  co_await reads_.join();
}

}  // namespace corral
