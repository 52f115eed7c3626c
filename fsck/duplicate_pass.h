/// Blocks that more than one inode, or one inode more than once, refers to.
#pragma once

#include "fsck/volume.h"

namespace corral::fsck {

/// Whoever has the best claim keeps the block; every other gets a copy of it, and of what hangs below it, so nobody
/// loses contents, whichever claim was the right one. Afterwards volume.duplicates is empty, unless a repair was
/// declined.
Task<Result<>> separate_duplicates(Volume& volume);

}  // namespace corral::fsck
