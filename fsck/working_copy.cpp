#include "fsck/working_copy.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/check.h"

namespace corral::fsck {

WorkingCopy::WorkingCopy(Executor& executor, Device& device)
    : executor_(executor), device_(device), geometry_(device.geometry()), scope_(executor) {
  geometry_.read_only = false;
  CHECK_INVARIANT(geometry_.sector_bytes % kSectorBytes == 0);
}

void WorkingCopy::overlay(std::uint64_t offset_bytes, std::span<std::byte> bytes) const {
  const std::uint64_t first = offset_bytes / kSectorBytes;
  const std::uint64_t end = (offset_bytes + bytes.size() + kSectorBytes - 1) / kSectorBytes;
  for (auto change = changes_.lower_bound(first); change != changes_.end() && change->first < end; ++change) {
    const std::uint64_t sector_begin = change->first * kSectorBytes;
    const std::uint64_t begin = std::max(sector_begin, offset_bytes);
    const std::uint64_t stop = std::min(sector_begin + kSectorBytes, offset_bytes + bytes.size());
    std::memcpy(bytes.data() + (begin - offset_bytes), change->second->data() + (begin - sector_begin), stop - begin);
  }
}

Task<Result<>> WorkingCopy::read(std::uint64_t offset_bytes, std::span<const ReadSpan> spans) {
  CO_TRY_VOID(co_await device_.read(offset_bytes, spans));
  for (ReadSpan span : spans) {
    overlay(offset_bytes, span);
    bytes_read_ += span.size();
    offset_bytes += span.size();
  }
  co_return Result<>{};
}

Task<Result<>> WorkingCopy::write(std::uint64_t offset_bytes, std::span<const WriteSpan> spans, WriteMode) {
  for (WriteSpan span : spans) {
    if (offset_bytes + span.size() > geometry_.size_bytes)
      co_return fail_device(ENOSPC, "{}: write past the end at byte {}", name(), offset_bytes);
    put(offset_bytes, span);
    offset_bytes += span.size();
  }
  co_return Result<>{};
}

void WorkingCopy::put(std::uint64_t offset_bytes, std::span<const std::byte> bytes) {
  CHECK_INVARIANT(offset_bytes % kSectorBytes == 0 && bytes.size() % kSectorBytes == 0);
  CHECK_INVARIANT(offset_bytes + bytes.size() <= geometry_.size_bytes);
  for (std::size_t at = 0; at < bytes.size(); at += kSectorBytes) {
    auto& sector = changes_[(offset_bytes + at) / kSectorBytes];
    if (!sector) sector = std::make_unique<Sector>();
    std::memcpy(sector->data(), bytes.data() + at, kSectorBytes);
    auto chunk = chunks_.find((offset_bytes + at) / kChunkBytes);
    // A chunk that is still being read takes the changes over when it has arrived.
    if (chunk != chunks_.end() && chunk->second->loaded)
      std::memcpy(chunk->second->bytes.data() + (offset_bytes + at) % kChunkBytes, bytes.data() + at, kSectorBytes);
  }
}

Task<void> WorkingCopy::load(std::shared_ptr<Chunk> chunk, std::uint64_t number) {
  const std::uint64_t offset = number * kChunkBytes;
  chunk->outcome = co_await device_.read(offset, chunk->bytes.span());
  overlay(offset, chunk->bytes.span());
  bytes_read_ += chunk->bytes.size();
  chunk->loaded = true;
  chunk->ready.set();
}

std::shared_ptr<WorkingCopy::Chunk> WorkingCopy::chunk_for(std::uint64_t number) {
  auto known = chunks_.find(number);
  if (known != chunks_.end()) {
    ages_.splice(ages_.end(), ages_, known->second->age);
    return known->second;
  }
  while (chunks_.size() >= kCachedChunks) {
    chunks_.erase(ages_.front());
    ages_.pop_front();
  }
  auto chunk = std::make_shared<Chunk>(executor_);
  const std::uint64_t whole = geometry_.size_bytes / geometry_.sector_bytes * geometry_.sector_bytes;
  chunk->bytes = AlignedBuffer(std::min(kChunkBytes, whole - number * kChunkBytes), false);
  chunk->age = ages_.insert(ages_.end(), number);
  chunks_.emplace(number, chunk);
  scope_.spawn(load(chunk, number));
  return chunk;
}

void WorkingCopy::read_ahead(std::uint64_t number) {
  if (number == last_chunk_) return;
  const bool sequential = number == last_chunk_ + 1;
  last_chunk_ = number;
  if (!sequential) return;
  for (std::uint64_t ahead = number + 1; ahead <= number + kChunksAhead; ++ahead) {
    if ((ahead + 1) * kChunkBytes > geometry_.size_bytes) return;
    chunk_for(ahead);
  }
}

Task<Result<>> WorkingCopy::fetch(std::uint64_t offset_bytes, std::span<std::byte> into) {
  CHECK_INVARIANT(offset_bytes + into.size() <= geometry_.size_bytes);
  while (!into.empty()) {
    const std::uint64_t number = offset_bytes / kChunkBytes;
    const std::size_t within = offset_bytes % kChunkBytes;
    std::shared_ptr<Chunk> chunk = chunk_for(number);
    read_ahead(number);
    if (!chunk->loaded) co_await chunk->ready.wait();
    if (!chunk->outcome) co_return chunk->outcome;
    const std::size_t bytes = std::min(chunk->bytes.size() - within, into.size());
    std::memcpy(into.data(), chunk->bytes.data() + within, bytes);
    into = into.subspan(bytes);
    offset_bytes += bytes;
  }
  co_return Result<>{};
}

Task<Result<>> WorkingCopy::write_run(std::uint64_t first_sector, std::uint64_t sectors) {
  // Whole sectors of the device, whatever their size.
  const std::uint64_t unit = geometry_.sector_bytes;
  const std::uint64_t begin = first_sector * kSectorBytes / unit * unit;
  const std::uint64_t end = ((first_sector + sectors) * kSectorBytes + unit - 1) / unit * unit;
  AlignedBuffer buffer(end - begin, false);
  if (unit > kSectorBytes) CO_TRY_VOID(co_await device_.read(begin, buffer.span()));
  overlay(begin, buffer.span());
  co_return co_await device_.write(begin, buffer.span(), WriteMode::cached);
}

Task<Result<>> WorkingCopy::write_sectors(std::function<bool(std::uint64_t)> wanted) {
  constexpr std::uint64_t kMostSectors = (1 << 20) / kSectorBytes;
  auto change = changes_.begin();
  while (change != changes_.end()) {
    const std::uint64_t first = change->first;
    if (!wanted(first * kSectorBytes)) {
      ++change;
      continue;
    }
    std::uint64_t count = 0;
    while (change != changes_.end() && change->first == first + count && count < kMostSectors &&
           wanted(change->first * kSectorBytes)) {
      ++count;
      ++change;
    }
    CO_TRY_VOID(co_await write_run(first, count));
  }
  co_return co_await device_.flush();
}

Task<Result<>> WorkingCopy::commit(std::function<bool(std::uint64_t)> is_derived) {
  if (changes_.empty()) co_return Result<>{};
  CO_TRY_VOID(co_await write_sectors([&is_derived](std::uint64_t offset) { return !is_derived(offset); }));
  CO_TRY_VOID(co_await write_sectors(is_derived));
  changes_.clear();
  co_return Result<>{};
}

void WorkingCopy::drop_changes() {
  changes_.clear();
  chunks_.clear();
  ages_.clear();
}

Task<void> WorkingCopy::close() {
  co_await scope_.join();
}

}  // namespace corral::fsck
