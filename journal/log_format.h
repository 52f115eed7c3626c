/// How a set of changes stands in the log: descriptors, block states, revokes, and the header that ends it
/// (struct gfs2_log_descriptor, struct gfs2_log_header).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/aligned_buffer.h"
#include "base/clock.h"
#include "base/result.h"
#include "base/task.h"
#include "disk/device.h"
#include "journal/block_cache.h"
#include "journal/journal_map.h"

namespace corral {

/// One block state to be logged.
struct LoggedState {
  BlockRef block;
  BlockBytesRef state;
  bool journaled_data = false;
};

/// Log blocks (descriptors included, the header not) that so many states and revokes take.
std::uint32_t log_blocks_for(const ondisk::Geometry& geometry, std::size_t metadata, std::size_t journaled_data,
                             std::size_t revokes);

/// Writes the log blocks of a set from journal block `start` on (wrapping at the journal's end), as few large writes as
/// the journal's extents allow. Order: journaled data, metadata, revokes, as the kernel has it. Not flushed.
Task<Result<>> write_log_blocks(Executor& executor, Device& device, const ondisk::Geometry& geometry,
                                const JournalMap& map, std::uint32_t start, std::span<const LoggedState> states,
                                std::span<const BlockNo> revokes);

/// What the filesystem adds to each log header (struct gfs2_log_header, fields from lh_statfs_addr on).
struct LogHeaderExtras {
  BlockNo statfs_inode;
  BlockNo quota_inode;
  std::int64_t local_total = 0;
  std::int64_t local_free = 0;
  std::int64_t local_dinodes = 0;
};

/// A log header's varying fields.
struct LogHeaderFields {
  JournalId journal;
  BlockNo journal_inode;
  std::uint64_t sequence = 0;
  std::uint32_t flags = 0;
  std::uint32_t tail = 0;
  std::uint32_t block = 0;  ///< journal block at which it is written
  WallTime time;
  LogHeaderExtras extras;
};

/// The header's block, checksums included.
AlignedBuffer encode_log_header(const ondisk::Geometry& geometry, const JournalMap& map, const LogHeaderFields& fields);

}  // namespace corral
