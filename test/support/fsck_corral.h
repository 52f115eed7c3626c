/// Our own checker as a judge of volumes in memory.
#pragma once

#include <string>

#include "disk/simulated_device.h"
#include "fsck/check.h"
#include "test/support/manual_clock.h"

namespace corral::test {

/// What it says of the volume; empty if it finds nothing.
inline std::string fsck_corral(const DiskImage& image) {
  ManualClock clock;
  Executor executor(clock);
  SimulatedDisk disk(image);
  SimulatedDevice device(executor, disk, 1);
  NullLogSink sink;
  std::string complaints;
  fsck::Findings findings([&complaints](const fsck::Finding& finding) {
    complaints += finding.problem + "\n";
    return fsck::Outcome::told;
  });
  auto report = run_to_end(clock, executor, fsck::check_volume(executor, device, findings, {}, Logger(sink)));
  if (!report) complaints += report.error().describe();
  return complaints;
}

}  // namespace corral::test
