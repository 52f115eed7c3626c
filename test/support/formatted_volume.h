/// Volumes made by our mkfs, in memory.
#pragma once

#include <cstdint>
#include <map>
#include <utility>

#include "test/support/catch.h"
#include "test/support/format_image.h"

namespace corral::test {

inline DiskImage formatted_volume(const mkfs::FormatOptions& options, std::uint64_t mebibytes) {
  Result<DiskImage> image = format_image(options, mebibytes);
  if (!image) FAIL("format: " << image.error().describe());
  return *std::move(image);
}

/// lock_nolock, with a journal of 8 MiB; made once for each shape.
inline DiskImage formatted_volume(std::uint32_t block_size, std::uint64_t mebibytes) {
  static std::map<std::pair<std::uint32_t, std::uint64_t>, DiskImage> made;
  auto known = made.find({block_size, mebibytes});
  if (known != made.end()) return known->second;
  mkfs::FormatOptions options;
  options.block_size = block_size;
  options.journal_mebibytes = 8;
  options.lock_protocol = mkfs::kLockNolock;
  return made.emplace(std::pair(block_size, mebibytes), formatted_volume(options, mebibytes)).first->second;
}

}  // namespace corral::test
