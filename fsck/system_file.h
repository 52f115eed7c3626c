/// Filling system files.
#pragma once

#include <functional>

#include "fsck/volume.h"

namespace corral::fsck {

/// Fills one block of a file's contents, given as zeros.
using FillBlock = std::function<void(std::uint64_t index, std::span<std::byte> block)>;

/// Gives the inode new contents of `size` bytes in blocks of their own; what it had is given up. ENOSPC, with nothing
/// changed.
Task<Result<>> write_contents(Volume& volume, BlockNo inode, std::uint64_t size, FillBlock fill);
/// The same within the dinode; they fit there.
Task<Result<>> write_stuffed(Volume& volume, BlockNo inode, std::span<const std::byte> contents);

}  // namespace corral::fsck
