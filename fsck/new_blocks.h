/// Blocks for what repairs build: taken all at once or not at all.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "fsck/volume.h"

namespace corral::fsck {

/// So many free blocks, of that use from now on; nothing, and none taken, where the volume has not so many.
std::optional<std::vector<BlockNo>> take_blocks(Volume& volume, std::uint64_t count, Use use);

/// Indirect blocks above so many data blocks.
std::uint64_t indirect_blocks(const ondisk::Geometry& geometry, std::uint64_t data_blocks);

/// Writes the tree of a file whose blocks are `data`, in order and without holes: `indirects` are as many as
/// indirect_blocks() says. Sets the pointers and the height in `dinode`; what lies behind its header is lost.
void write_tree(Volume& volume, std::span<const BlockNo> data, std::span<const BlockNo> indirects,
                std::span<std::byte> dinode);

/// A dinode's block for a new inode, without contents, whose links are those of one name and, of a directory, its own
/// "."; the caller fills in what it is.
BlockBytes new_dinode(Volume& volume, BlockNo address, std::uint32_t mode, std::uint32_t flags);

}  // namespace corral::fsck
