/// Giving names: to inodes that are in the table, and to new ones.
#pragma once

#include <string>
#include <vector>

#include "fsck/directory_layout.h"
#include "fsck/volume.h"

namespace corral::fsck {

/// Adds the names, none of which it has yet, to a sound directory, and counts them. ENOSPC; EBUSY if it is
/// damaged and its repair was declined.
Task<Result<>> add_names(Volume& volume, BlockNo directory, std::vector<NameEntry> names);

/// A new inode with that name in the directory: empty, or a directory of "." and "..". `flags` are those of its dinode
/// (kDinode*). ENOSPC; EBUSY as add_names().
Task<Result<BlockNo>> make_inode(Volume& volume, BlockNo directory, std::string name, std::uint32_t mode,
                                 std::uint32_t flags, std::uint32_t payload_format = 0);

}  // namespace corral::fsck
