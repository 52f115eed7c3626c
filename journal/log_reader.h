/// Reads parts of a journal in order, in large reads that run ahead of their use.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>

#include "base/aligned_buffer.h"
#include "base/result.h"
#include "base/sync.h"
#include "base/task.h"
#include "disk/device.h"
#include "journal/journal_map.h"
#include "ondisk/geometry.h"

namespace corral {

/// A journal as something to read from and write to. Everything named outlives whoever is given it.
struct JournalAccess {
  Executor& executor;
  Device& device;
  const ondisk::Geometry& geometry;
  const JournalMap& map;

  /// `steps` blocks behind `block`, going round at the journal's end.
  std::uint32_t forward(std::uint32_t block, std::uint64_t steps) const {
    return static_cast<std::uint32_t>((block + steps) % map.size_blocks());
  }
  /// Steps from one block forward to another.
  std::uint32_t distance(std::uint32_t from, std::uint32_t to) const {
    return to >= from ? to - from : map.size_blocks() - from + to;
  }
  std::uint64_t offset_bytes(std::uint32_t block) const { return geometry.offset_bytes(map.block_at(block)); }
};

/// Usage: request() what is wanted, next() until it gives an empty chunk or one has seen enough, then stop().
class LogReader {
 public:
  /// Consecutive journal blocks; the bytes are valid until the next call.
  struct Chunk {
    std::uint32_t first_block = 0;
    std::span<const std::byte> bytes;
  };

  explicit LogReader(JournalAccess journal) : journal_(journal), ready_(journal.executor), reads_(journal.executor) {}

  /// Adds blocks to what next() will give: `count` from `first_block` on, going round at the journal's end.
  void request(std::uint32_t first_block, std::uint32_t count);
  /// The next blocks requested, at most kChunkBytes of them; empty when all were given. Suspends.
  Task<Result<Chunk>> next();
  /// Waits for the reads that are still running ahead; must precede the destructor unless the loop is being torn down.
  Task<void> stop();

  static constexpr std::uint32_t kChunkBytes = 1 << 20;

 private:
  struct Piece {
    std::uint32_t first_block;
    std::uint32_t count;
  };
  struct Slot {
    AlignedBuffer buffer;
    Piece piece{};
    bool done = false;
    Result<> result;
  };
  static constexpr std::size_t kReadsAhead = 4;

  void run_ahead();
  Task<void> fetch(Slot& slot);

  JournalAccess journal_;
  std::deque<Piece> wanted_;
  std::array<Slot, kReadsAhead> slots_;
  std::size_t first_ = 0;   ///< slot of the oldest read
  std::size_t in_use_ = 0;  ///< slots from first_ on that are being read or used
  bool lent_ = false;       ///< the oldest slot's bytes are with the caller
  Signal ready_;
  Scope reads_;
};

}  // namespace corral
