#include "tools/mkfs/write_volume.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "base/aligned_buffer.h"

namespace corral::mkfs {

using namespace ondisk;

namespace {

constexpr std::uint64_t kChunkBytes = 1 << 20;
constexpr std::size_t kWritesInFlight = 8;
constexpr std::uint64_t kDiscardBytes = std::uint64_t{2} << 30;

class VolumeWriter {
 public:
  VolumeWriter(Executor& executor, Device& device, const VolumeImage& image, const WriteOptions& options)
      : executor_(executor), device_(device), image_(image), options_(options), ranges_(image.written_ranges()) {
    for (const WrittenRange& range : ranges_)
      total_bytes_ += range.blocks << image_.geometry().block_shift();
  }

  Task<Result<>> run();

 private:
  Task<Result<>> zero_start();
  Task<void> discard();
  Task<Result<>> write_ranges();
  Task<void> write_chunks();
  Task<Result<>> write_chunk(WrittenRange chunk, AlignedBuffer& buffer);
  Task<Result<>> write_superblock();
  std::optional<WrittenRange> next_chunk();
  void report(WritePhase phase, std::uint64_t done, std::uint64_t total) const {
    if (options_.progress) options_.progress(phase, done, total);
  }

  Executor& executor_;
  Device& device_;
  const VolumeImage& image_;
  const WriteOptions& options_;
  std::vector<WrittenRange> ranges_;
  std::size_t range_ = 0;
  std::uint64_t range_done_blocks_ = 0;
  std::uint64_t done_bytes_ = 0;
  std::uint64_t total_bytes_ = 0;
  Result<> outcome_{};
};

Task<Result<>> VolumeWriter::run() {
  CO_TRY_VOID(co_await zero_start());
  if (options_.discard) {
    co_await discard();
    // A device may give anything for what was discarded, and here zeros matter.
    CO_TRY_VOID(co_await zero_start());
  }
  CO_TRY_VOID(co_await write_ranges());
  CO_TRY_VOID(co_await device_.flush());
  CO_TRY_VOID(co_await write_superblock());
  co_return co_await device_.flush();
}

Task<Result<>> VolumeWriter::zero_start() {
  const AlignedBuffer zeros(kSuperblockOffsetBytes + image_.geometry().block_size());
  CO_TRY_VOID(co_await device_.write(0, zeros.span(), WriteMode::cached));
  co_return co_await device_.flush();
}

Task<void> VolumeWriter::discard() {
  const std::uint64_t size = image_.placement().volume_blocks << image_.geometry().block_shift();
  for (std::uint64_t at = 0; at < size; at += kDiscardBytes) {
    report(WritePhase::discarding, at, size);
    // The volume is right without it.
    if (!co_await device_.discard(at, std::min(kDiscardBytes, size - at))) co_return;
  }
  report(WritePhase::discarding, size, size);
}

std::optional<WrittenRange> VolumeWriter::next_chunk() {
  if (range_ == ranges_.size()) return std::nullopt;
  const WrittenRange& range = ranges_[range_];
  const std::uint64_t most = kChunkBytes >> image_.geometry().block_shift();
  const WrittenRange chunk{.start = range.start + range_done_blocks_,
                           .blocks = std::min(most, range.blocks - range_done_blocks_)};
  range_done_blocks_ += chunk.blocks;
  if (range_done_blocks_ == range.blocks) {
    ++range_;
    range_done_blocks_ = 0;
  }
  return chunk;
}

Task<Result<>> VolumeWriter::write_ranges() {
  Scope writers(executor_);
  for (std::size_t i = 0; i < kWritesInFlight; ++i)
    writers.spawn(write_chunks());
  co_await writers.join();
  co_return std::move(outcome_);
}

Task<void> VolumeWriter::write_chunks() {
  AlignedBuffer buffer(kChunkBytes, false);
  while (outcome_) {
    auto chunk = next_chunk();
    if (!chunk) co_return;
    auto written = co_await write_chunk(*chunk, buffer);
    if (!written && outcome_) outcome_ = std::move(written);
  }
}

Task<Result<>> VolumeWriter::write_chunk(WrittenRange chunk, AlignedBuffer& buffer) {
  const std::size_t block_size = image_.geometry().block_size();
  const std::span<std::byte> bytes = buffer.span().first(chunk.blocks * block_size);
  std::fill(bytes.begin(), bytes.end(), std::byte{0});
  for (std::uint64_t i = 0; i < chunk.blocks; ++i)
    image_.fill(chunk.start + i, bytes.subspan(i * block_size, block_size));
  CO_TRY_VOID(co_await device_.write(image_.geometry().offset_bytes(chunk.start), bytes, WriteMode::cached));
  done_bytes_ += bytes.size();
  report(WritePhase::writing, done_bytes_, total_bytes_);
  co_return Result<>{};
}

Task<Result<>> VolumeWriter::write_superblock() {
  AlignedBuffer block(image_.geometry().block_size());
  image_.fill_superblock(block.span());
  co_return co_await device_.write(kSuperblockOffsetBytes, block.span(), WriteMode::cached);
}

}  // namespace

Task<Result<>> write_volume(Executor& executor, Device& device, const VolumeImage& image, WriteOptions options) {
  VolumeWriter writer(executor, device, image, options);
  co_return co_await writer.run();
}

Task<Result<>> format_device(Executor& executor, Device& device, FormatOptions options) {
  CO_TRY(auto image, VolumeImage::plan(options, device.geometry()));
  co_return co_await write_volume(executor, device, image);
}

}  // namespace corral::mkfs
