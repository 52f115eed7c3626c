/// Writes logged block states to their places: newest states only, in disk order, in large writes.
#pragma once

#include <span>

#include "base/result.h"
#include "base/task.h"
#include "journal/log_reader.h"
#include "journal/log_scan.h"

namespace corral {

/// Writes every block of the plan whose fate is `write`, from the log that begins at journal block `tail`. Not flushed.
/// Memory: kInPlaceBatchBytes of block states at a time, whatever the log's size.
Task<Result<>> write_in_place(JournalAccess journal, std::uint32_t tail, std::span<const LoggedBlock> plan);

constexpr std::uint64_t kInPlaceBatchBytes = 32 << 20;

}  // namespace corral
