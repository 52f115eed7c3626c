/// The names in directories, against the inodes that they name.
#pragma once

#include "fsck/volume.h"

namespace corral::fsck {

/// Checks every name of every sound directory: it may stand there, only once, with its right hash, and names an inode
/// that exists with its number and type; a directory has one name. Counts the names of every inode and finds every
/// directory's parent.
Task<Result<>> check_directories(Volume& volume);

}  // namespace corral::fsck
