/// The height of a file's tree, judged by the tree itself.
#pragma once

#include <optional>

#include "fsck/volume.h"

namespace corral::fsck {

/// The dinode's own height if any of its first pointers leads through so many indirect blocks; else the height that
/// one of them shows. `dinode` has a height of 2 or more.
Task<Result<std::uint32_t>> likely_height(Volume& volume, std::span<const std::byte> dinode);

/// A height greater than the dinode's with which the tree has just as many blocks as the dinode counts.
Task<Result<std::optional<std::uint32_t>>> greater_height(Volume& volume, BlockNo inode,
                                                          std::span<const std::byte> dinode);

}  // namespace corral::fsck
