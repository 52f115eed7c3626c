/// Directories whose structure is broken.
#pragma once

#include "fsck/volume.h"

namespace corral::fsck {

/// Gathers what names can be found of each damaged directory, in its dinode and leaves and in leaves of it that nothing
/// leads to any more, and lays it out anew.
Task<Result<>> rebuild_directories(Volume& volume);

}  // namespace corral::fsck
