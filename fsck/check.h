/// Checks a volume that is not mounted, and repairs it.
///
/// Passes, in order: superblock, journals (replay), resource groups, inodes with all blocks they refer to, damaged
/// directories, duplicate blocks, names, system files, the cluster area, orphans, links, bitmaps and totals. Each sees
/// what the ones before it decided, in a working copy; what is to be written goes to the device at the end, in two
/// steps: structures, then, when those are stable, the bitmaps and counts that follow from them. Cut off at any moment,
/// a further run finds what is left to do from the structures alone.
///
/// Memory: 4 bits for each block, 32 bytes for each inode, 24 more for each directory, 12 MiB of cache, and what the
/// repairs change.
#pragma once

#include "base/log.h"
#include "fsck/findings.h"
#include "fsck/volume.h"

namespace corral::fsck {

struct CheckOptions {
  /// Write to the device what was decided to be repaired.
  bool write = false;
  /// Replay dirty journals and look no further if there was nothing else to do (preening).
  bool only_journals = false;
  Progress progress{};
};

struct CheckReport {
  std::uint64_t findings = 0;
  std::uint64_t remaining = 0;  ///< not repaired
  bool complete = true;         ///< false: a declined repair made it impossible to go on
  std::uint64_t blocks = 0;     ///< of the volume
  std::uint64_t inodes = 0;
  std::uint64_t directories = 0;
  std::uint64_t bytes_read = 0;
};

/// Checks the volume on the device. Errors: the device's, or EINVAL where it is no GFS2 volume; damage is no error.
Task<Result<CheckReport>> check_volume(Executor& executor, Device& device, Findings& findings, CheckOptions options,
                                       Logger log);

}  // namespace corral::fsck
