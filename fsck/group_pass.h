/// The resource groups: the index (file rindex), each group's header, and the bitmaps as they are on the disk.
#pragma once

#include <optional>
#include <vector>

#include "fsck/volume.h"

namespace corral::fsck {

/// Finds all groups and loads their bitmaps into volume.map. The index is believed where it agrees with the headers;
/// what it lacks, or has wrong, is found by searching for headers in the space that no group covers, and at last from
/// that space alone. EIO where no group can be found.
/// Gives the index as it has to be where the one on the disk is not so and is to be rewritten.
Task<Result<std::optional<std::vector<ondisk::ResourceGroupIndexEntry>>>> load_groups(Volume& volume);

/// The entry that describes the group.
ondisk::ResourceGroupIndexEntry index_entry(const Group& group);

}  // namespace corral::fsck
