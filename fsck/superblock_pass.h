/// The superblock: where everything else is found from.
#pragma once

#include "fsck/findings.h"
#include "fsck/working_copy.h"
#include "ondisk/layout.h"

namespace corral::fsck {

/// Checks the superblock and that a directory lies where it says that the master and the root directory are; where it
/// is damaged, rebuilds it from what is found by searching the device for dinodes, each of which carries its own
/// address. EINVAL where the device shows no sign of a GFS2 volume.
Task<Result<ondisk::Superblock>> check_superblock(WorkingCopy& disk, Findings& findings);

}  // namespace corral::fsck
