/// What follows from everything else: bitmaps, the counts in the headers of resource groups, and the volume's totals.
#pragma once

#include "fsck/volume.h"

namespace corral::fsck {

/// Compares the bitmaps and headers of all groups with what the blocks are used for.
Task<Result<>> check_groups(Volume& volume);

/// Compares the files statfs and statfs_changeN with the groups.
Task<Result<>> check_statfs(Volume& volume);

}  // namespace corral::fsck
