/// Giving names to inodes that are in the table.
#pragma once

#include <vector>

#include "fsck/directory_layout.h"
#include "fsck/volume.h"

namespace corral::fsck {

/// Adds the names, none of which it has yet, to a sound directory, and counts them. ENOSPC; EBUSY if it is
/// damaged and its repair was declined.
Task<Result<>> add_names(Volume& volume, BlockNo directory, std::vector<NameEntry> names);

}  // namespace corral::fsck
