/// A volume made by our mkfs, in memory.
#pragma once

#include <cstdint>

#include "disk/simulated_device.h"
#include "test/support/manual_clock.h"
#include "tools/mkfs/write_volume.h"

namespace corral::test {

inline Result<DiskImage> format_image(const mkfs::FormatOptions& options, std::uint64_t mebibytes) {
  ManualClock clock;
  Executor executor(clock);
  SimulatedDisk disk(DiskImage(mebibytes << 20));
  SimulatedDevice device(executor, disk, 1);
  TRY_VOID(run_to_end(clock, executor, mkfs::format_device(executor, device, options)));
  return disk.contents();
}

}  // namespace corral::test
