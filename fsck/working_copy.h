/// The device as it would be after the repairs decided so far: reads see them, the device itself does not until
/// commit(). So a check that only looks and one that repairs run the same code, and each pass sees what the passes
/// before it decided.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <unordered_map>

#include "base/aligned_buffer.h"
#include "base/sync.h"
#include "base/task.h"
#include "disk/device.h"

namespace corral::fsck {

/// Memory: 512 bytes for each changed sector until commit(), and a cache of kCachedChunks chunks for fetch().
class WorkingCopy final : public Device {
 public:
  /// The device outlives the copy. Join close() before destroying it.
  WorkingCopy(Executor& executor, Device& device);

  const std::string& name() const override { return device_.name(); }
  const DeviceGeometry& geometry() const override { return geometry_; }

  using Device::read;
  using Device::write;
  Task<Result<>> read(std::uint64_t offset_bytes, std::span<const ReadSpan> spans) override;
  /// Into the copy; `mode` says nothing here.
  Task<Result<>> write(std::uint64_t offset_bytes, std::span<const WriteSpan> spans, WriteMode mode) override;
  Task<Result<>> flush() override { co_return Result<>{}; }
  Task<Result<>> discard(std::uint64_t, std::uint64_t) override { co_return fail(EOPNOTSUPP); }

  /// Like read(), through a cache of large chunks that runs ahead of sequential use. Any memory will do.
  Task<Result<>> fetch(std::uint64_t offset_bytes, std::span<std::byte> into);
  /// Like write(), at once and from any memory.
  void put(std::uint64_t offset_bytes, std::span<const std::byte> bytes);

  /// Writes what changed to the device in disk order: first those sectors for which `is_derived` is false, then, behind
  /// a flush, the rest, and a flush again.
  Task<Result<>> commit(std::function<bool(std::uint64_t offset_bytes)> is_derived);
  /// Forgets what changed.
  void drop_changes();
  /// Waits for reads that run ahead.
  Task<void> close();
  std::uint64_t bytes_read() const { return bytes_read_; }

 private:
  static constexpr std::size_t kSectorBytes = 512;
  static constexpr std::uint64_t kChunkBytes = 128 << 10;
  static constexpr std::size_t kCachedChunks = 96;
  static constexpr std::uint64_t kChunksAhead = 16;
  using Sector = std::array<std::byte, kSectorBytes>;
  struct Chunk {
    explicit Chunk(Executor& executor) : ready(executor) {}
    AlignedBuffer bytes;
    Event ready;
    bool loaded = false;
    Result<> outcome;
    std::list<std::uint64_t>::iterator age;
  };

  void overlay(std::uint64_t offset_bytes, std::span<std::byte> bytes) const;
  std::shared_ptr<Chunk> chunk_for(std::uint64_t number);
  Task<void> load(std::shared_ptr<Chunk> chunk, std::uint64_t number);
  void read_ahead(std::uint64_t number);
  Task<Result<>> write_run(std::uint64_t first_sector, std::uint64_t sectors);
  Task<Result<>> write_sectors(std::function<bool(std::uint64_t)> wanted);

  Executor& executor_;
  Device& device_;
  DeviceGeometry geometry_;
  std::map<std::uint64_t, std::unique_ptr<Sector>> changes_;  ///< by sector number
  std::unordered_map<std::uint64_t, std::shared_ptr<Chunk>> chunks_;
  std::list<std::uint64_t> ages_;  ///< least recently used first
  std::uint64_t last_chunk_ = 0;
  std::uint64_t bytes_read_ = 0;
  Scope scope_;
};

}  // namespace corral::fsck
