/// Volumes made by our mkfs, in memory.
#pragma once

#include <cstdint>
#include <map>
#include <utility>

#include "disk/simulated_device.h"
#include "test/support/catch.h"
#include "test/support/manual_clock.h"
#include "tools/mkfs/write_volume.h"

namespace corral::test {

inline DiskImage formatted_volume(const mkfs::FormatOptions& options, std::uint64_t mebibytes) {
  ManualClock clock;
  Executor executor(clock);
  SimulatedDisk disk(DiskImage(mebibytes << 20));
  SimulatedDevice device(executor, disk, 1);
  Result<> done = run_to_end(clock, executor, mkfs::format_device(executor, device, options));
  if (!done) FAIL("format: " << done.error().describe());
  return disk.contents();
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
