/// Takes in the active part of a log, block by block, and works out what a replay has to write.
///
/// Pure: no I/O, bytes in, plan or error out. Every byte is checked before it is used; a log that contradicts itself is
/// a corruption (the volume must not be mounted, fsck is to decide), as for the kernel. Memory: 16 bytes for each
/// logged block and for each different revoke, which the journal's size bounds.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "base/strong.h"
#include "journal/journal_map.h"
#include "journal/log_head.h"
#include "ondisk/geometry.h"

namespace corral {

/// One block state found in the log.
struct LoggedBlock {
  /// What becomes of it.
  enum class Fate : std::uint8_t {
    write,       ///< newest state of its block: written in place
    superseded,  ///< a newer state follows in the log
    revoked,     ///< a later revoke says that the block was freed (or handed to another node) since
  };
  BlockNo place;             ///< block of the device that it belongs to
  std::uint32_t log_offset;  ///< blocks from the log's tail
  Fate fate = Fate::write;
  bool journaled_data = false;  ///< file data, not metadata
  bool escaped = false;         ///< its first word, equal to the magic number, was zeroed in the log
  bool intact = true;           ///< false: metadata without the magic number
};

/// All that the log holds, in order of place, then of log position.
struct LogPlan {
  std::vector<LoggedBlock> blocks;
  std::uint64_t replayed_blocks = 0;      ///< not revoked; superseded ones count, as in the kernel's messages
  std::uint64_t written_blocks = 0;       ///< different places among them
  std::uint64_t revokes = 0;              ///< different blocks named by revokes
  std::uint64_t unknown_descriptors = 0;  ///< of types that we do not know, skipped
};

/// The blocks that a replay may write: those of the volume behind the superblock and in no journal.
class WritableBlocks {
 public:
  WritableBlocks(std::uint64_t volume_blocks, const ondisk::Geometry& geometry, std::span<const JournalMap> journals);
  bool contains(BlockNo block) const;

 private:
  struct Range {
    BlockNo start;
    BlockNo end;
  };
  std::uint64_t volume_blocks_;
  BlockNo superblock_;
  std::vector<Range> journals_;  ///< sorted
};

class LogScan {
 public:
  /// `head` was found in a journal of so many blocks; its tail lies in the journal.
  LogScan(const ondisk::Geometry& geometry, const JournalHead& head, std::uint32_t journal_blocks);

  /// Blocks from the tail up to the head; the head itself is not looked at.
  std::uint32_t active_blocks() const { return active_; }
  /// The active blocks, one after another.
  Result<> add(std::span<const std::byte> block);
  /// After active_blocks() calls of add().
  Result<LogPlan> finish(const WritableBlocks& writable) &&;

 private:
  struct Revoke {
    BlockNo block;
    std::uint32_t log_offset;
  };
  enum class Inside { skipped, metadata, journaled_data, revokes };

  std::uint32_t journal_block(std::uint32_t log_offset) const;
  Result<> begin_descriptor(std::span<const std::byte> block, std::uint32_t here);
  Result<> continue_descriptor(std::span<const std::byte> block, std::uint32_t here);
  void take_revokes(std::span<const std::byte> block, std::size_t header_bytes, std::uint32_t here);
  void compact_revokes();
  void settle_fates();
  Result<> check_places(const WritableBlocks& writable) const;

  ondisk::Geometry geometry_;
  std::uint32_t tail_;
  std::uint32_t journal_blocks_;
  std::uint32_t active_;
  std::uint32_t next_ = 0;  ///< log offset of the block to come
  Inside inside_ = Inside::skipped;
  std::uint32_t left_ = 0;        ///< blocks of the current descriptor to come
  std::uint32_t items_left_ = 0;  ///< of them logged blocks; or revokes
  std::size_t item_ = 0;          ///< index in plan_.blocks of the logged block to come
  std::vector<Revoke> revokes_;
  std::size_t compact_at_ = 1 << 16;
  LogPlan plan_;
};

/// Reads the active part of the log once, in order. Suspends; changes nothing.
Task<Result<LogPlan>> scan_log(JournalAccess journal, JournalHead head, const WritableBlocks& writable);

}  // namespace corral
