/// Finds the newest log header of a journal, from which replay or the running log goes on.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "base/clock.h"
#include "base/result.h"
#include "base/task.h"
#include "journal/log_format.h"
#include "journal/log_reader.h"
#include "ondisk/layout.h"

namespace corral {

/// The newest complete header of a journal (struct gfs2_log_header).
struct JournalHead {
  /// False where the journal holds no header at all (all zero, as some tools leave it): nothing to replay.
  bool found = false;
  std::uint64_t sequence = 0;
  std::uint32_t flags = 0;
  std::uint32_t block = 0;  ///< journal block of the header
  std::uint32_t tail = 0;   ///< journal block at which replay begins
  WallTime time;
  LogHeaderExtras extras;

  /// Nothing to replay: whoever wrote the journal last had everything in place.
  bool clean() const { return !found || (flags & ondisk::kLogHeadUnmount) != 0; }
  /// Clean because the volume was frozen: what the node had open, and so had left to clear away, it had open still.
  bool frozen() const { return found && (flags & ondisk::kLogHeadFlushFreeze) != 0; }
};

/// Looks at a journal's blocks in order, from block 0 on, and says which header is the head. As the kernel does it: the
/// sequence numbers rise from block 0 up to the head; behind it lies the previous round. A header that is damaged or
/// was not written completely does not count, so the one before it becomes the head.
class HeadSearch {
 public:
  /// False when the head is known and nothing further needs to be looked at.
  bool add(std::uint32_t journal_block, std::span<const std::byte> block);
  const JournalHead& head() const { return head_; }

 private:
  JournalHead head_;
};

/// Reads the journal until the head is known. A tail outside the journal is a corruption. Suspends; changes nothing.
Task<Result<JournalHead>> find_head(JournalAccess journal);

}  // namespace corral
