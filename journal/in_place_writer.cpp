#include "journal/in_place_writer.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/aligned_buffer.h"
#include "ondisk/layout.h"

namespace corral {

using namespace ondisk;

namespace {

constexpr std::uint64_t kLargestWriteBytes = 1 << 20;
constexpr std::uint64_t kWritesInFlight = 8;

/// Some blocks of the plan in order of place, and their states, which stand in that order in `bytes`.
struct Batch {
  std::vector<LoggedBlock> blocks;
  AlignedBuffer bytes;
};

std::span<std::byte> state(Batch& batch, std::size_t index, std::uint32_t block_size) {
  return batch.bytes.span().subspan(index * block_size, block_size);
}

/// Reads the parts of the log that hold states of the batch, and copies these out.
Task<Result<>> load(JournalAccess journal, std::uint32_t tail, Batch& batch, LogReader& reader) {
  const std::uint32_t block_size = journal.geometry.block_size();
  std::vector<std::uint32_t> in_log_order(batch.blocks.size());
  for (std::uint32_t i = 0; i < in_log_order.size(); ++i)
    in_log_order[i] = i;
  std::sort(in_log_order.begin(), in_log_order.end(), [&batch](std::uint32_t a, std::uint32_t b) {
    return batch.blocks[a].log_offset < batch.blocks[b].log_offset;
  });

  // Gaps shorter than this are cheaper to read than to skip.
  const std::uint32_t gap = (64u << 10) >> journal.geometry.block_shift();
  for (std::size_t i = 0; i < in_log_order.size();) {
    const std::uint32_t first = batch.blocks[in_log_order[i]].log_offset;
    std::uint32_t last = first;
    for (++i; i < in_log_order.size() && batch.blocks[in_log_order[i]].log_offset - last <= gap; ++i)
      last = batch.blocks[in_log_order[i]].log_offset;
    reader.request(journal.forward(tail, first), last - first + 1);
  }

  std::size_t next = 0;
  while (next < in_log_order.size()) {
    CO_TRY(LogReader::Chunk chunk, co_await reader.next());
    CHECK_INVARIANT(!chunk.bytes.empty());
    const std::uint32_t chunk_offset = journal.distance(tail, chunk.first_block);
    const std::uint64_t chunk_end = chunk_offset + chunk.bytes.size() / block_size;
    for (; next < in_log_order.size(); ++next) {
      const LoggedBlock& block = batch.blocks[in_log_order[next]];
      if (block.log_offset >= chunk_end) break;
      std::span<std::byte> into = state(batch, in_log_order[next], block_size);
      std::memcpy(into.data(), chunk.bytes.data() + std::size_t{block.log_offset - chunk_offset} * block_size,
                  block_size);
      if (block.escaped) view<be32>(into) = kMagic;
    }
  }
  co_return Result<>();
}

Task<void> write_run(JournalAccess journal, BlockNo place, WriteSpan bytes, Semaphore& slots, Result<>& result) {
  Result<> written = co_await journal.device.write(journal.geometry.offset_bytes(place), bytes, WriteMode::cached);
  if (!written && result)
    result = std::unexpected(written.error().within(
        fmt::format("writing blocks from {} on of {} in place", place.value, journal.device.name())));
  slots.release();
}

Task<Result<>> store(JournalAccess journal, Batch& batch) {
  const std::uint32_t block_size = journal.geometry.block_size();
  const std::size_t most = std::max<std::size_t>(1, kLargestWriteBytes / block_size);
  Result<> result;
  Semaphore slots(journal.executor, kWritesInFlight);
  Scope writes(journal.executor);
  for (std::size_t i = 0; i < batch.blocks.size() && result;) {
    std::size_t count = 1;
    while (count < most && i + count < batch.blocks.size() &&
           batch.blocks[i + count].place == batch.blocks[i].place + count)
      ++count;
    co_await slots.acquire();
    writes.spawn(write_run(journal, batch.blocks[i].place,
                           batch.bytes.span().subspan(i * block_size, count * block_size), slots, result));
    i += count;
  }
  co_await writes.join();
  co_return result;
}

}  // namespace

Task<Result<>> write_in_place(JournalAccess journal, std::uint32_t tail, std::span<const LoggedBlock> plan) {
  const std::uint32_t block_size = journal.geometry.block_size();
  const std::size_t most = std::max<std::size_t>(1, kInPlaceBatchBytes / block_size);
  Batch batch;
  for (auto next = plan.begin(); next != plan.end();) {
    batch.blocks.clear();
    for (; next != plan.end() && batch.blocks.size() < most; ++next) {
      if (next->fate == LoggedBlock::Fate::write) batch.blocks.push_back(*next);
    }
    const std::size_t bytes = batch.blocks.size() * block_size;
    if (batch.bytes.size() < bytes) batch.bytes = AlignedBuffer(bytes, false);
    LogReader reader(journal);
    Result<> loaded = co_await load(journal, tail, batch, reader);
    co_await reader.stop();
    CO_TRY_VOID(std::move(loaded));
    CO_TRY_VOID(co_await store(journal, batch));
  }
  co_return Result<>();
}

}  // namespace corral
