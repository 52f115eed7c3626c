/// Whose blocks are whose, for blocks of which only the number is known and which do not say it themselves.
#pragma once

#include <map>
#include <set>

#include "base/result.h"
#include "base/strong.h"
#include "base/task.h"
#include "disk/device.h"

namespace corral {

/// The inode of each of the blocks that belongs to one (its own for a dinode), found by walking through all inodes of
/// the volume; nothing is written. `replayed`: as the volume will be when its journals are replayed. Blocks of nobody
/// are missing. Memory: that of a check (fsck/check.h). Errors: the device's, or EIO where no resource group is found.
Task<Result<std::map<BlockNo, BlockNo>>> find_owners(Executor& executor, Device& device, std::set<BlockNo> wanted,
                                                     bool replayed);

}  // namespace corral
