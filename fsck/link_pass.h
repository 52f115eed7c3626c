/// Inodes without a name, and what follows from names: "..", link counts.
#pragma once

#include "fsck/volume.h"

namespace corral::fsck {

/// Frees what was deleted while it was open and nobody freed since; gives everything else without a name one in
/// lost+found.
Task<Result<>> reconnect_orphans(Volume& volume);

/// Lets every ".." lead to the parent, and every inode count its names.
Task<Result<>> check_links(Volume& volume);

}  // namespace corral::fsck
