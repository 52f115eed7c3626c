/// All inodes: their dinodes, trees and attributes; every block they refer to is claimed in volume.map.
#pragma once

#include "fsck/volume.h"

namespace corral::fsck {

/// Fills volume.inodes from the states in the bitmaps, in order of place; from dirents that name inodes of which the
/// bitmaps do not know; and, in groups whose bitmaps are lost, by a search for dinodes. Notes duplicate blocks and
/// damaged directories for the passes to come.
Task<Result<>> check_inodes(Volume& volume);

/// Takes one more inode into the table, as check_inodes does: one that a repair has made.
Task<Result<>> take_inode(Volume& volume, BlockNo inode);

/// Gives up all of an inode's blocks.
Task<Result<>> free_inode(Volume& volume, BlockNo inode);

}  // namespace corral::fsck
