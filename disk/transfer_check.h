/// The checks of device.h's contract that every device makes before it transfers anything.
#pragma once

#include <cstdint>
#include <span>

#include "base/result.h"
#include "disk/device.h"

namespace corral {

/// Total length in bytes of a read that may go ahead. Misalignment of offset, length or memory is a bug (checked).
Result<std::uint64_t> check_read(const Device& device, std::uint64_t offset_bytes, std::span<const ReadSpan> spans);
/// Total length in bytes of a write that may go ahead.
Result<std::uint64_t> check_write(const Device& device, std::uint64_t offset_bytes, std::span<const WriteSpan> spans);
/// Whether a discard may go ahead.
Result<> check_discard(const Device& device, std::uint64_t offset_bytes, std::uint64_t length_bytes);

}  // namespace corral
