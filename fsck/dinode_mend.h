/// Repairs within a dinode that is not sound in itself.
#pragma once

#include "fsck/volume.h"

namespace corral::fsck {

/// Makes the block pass check_dinode() if so little of it is damaged that it clearly is an inode; each repair is a
/// finding. False where it is none, or a repair was declined. Writes what it changes.
bool mend_dinode(Volume& volume, BlockNo inode, std::span<std::byte> block);

}  // namespace corral::fsck
