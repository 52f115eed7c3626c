/// What the parts of FileData (reading, writing, size, allocation) share. For fs/file_*.cpp only.
#pragma once

#include <cstdint>

#include "fs/allocator.h"
#include "fs/inode.h"
#include "fs/metadata_tree.h"
#include "fs/volume.h"
#include "fs/write_out.h"

namespace corral {

/// Greatest file size with any block size, as the kernel has it (MAX_LFS_FILESIZE).
constexpr std::uint64_t kMaxFileBytes = (std::uint64_t{1} << 63) - 1;

struct FileParts {
  Volume& volume;
  Allocator& allocator;
  MetadataTree& tree;
  WriteOut write_out;

  std::uint32_t block_size() const { return volume.geometry.block_size(); }
  std::uint64_t block_of(std::uint64_t offset) const { return offset >> volume.geometry.block_shift(); }
  std::uint64_t bytes_of(std::uint64_t block) const { return block << volume.geometry.block_shift(); }
  std::uint64_t offset_in_block(std::uint64_t offset) const { return offset & (block_size() - 1); }
  /// File blocks that bytes [offset, offset + length) touch; length must not be 0.
  FileRange blocks_of(std::uint64_t offset, std::uint64_t length) const {
    return {block_of(offset), block_of(offset + length - 1) + 1};
  }
};

/// FileData::read().
Task<Result<std::size_t>> read_file(FileParts& parts, const LockedInode& inode, std::uint64_t offset,
                                    std::span<std::byte> out);
/// Fills `out`, a multiple of blocks, with the file's blocks from `first` on; the inode is not stuffed, the size is not
/// looked at.
Task<Result<>> read_blocks(FileParts& parts, const LockedInode& inode, FileBlock first, std::span<std::byte> out);

/// mtime and ctime become now.
void touch(const Volume& volume, ondisk::Dinode& dinode);

/// Blocks to be allocated for a part of a file: as many as the volume and the quota have room for.
struct FileRoom {
  Allotment allotment;
  std::uint64_t count = 0;  ///< file blocks that can be made to exist
  MetadataTree::Cost cost;  ///< of these
};
/// Room for the blocks, some of which are missing, or, where that is too much, for the first of them, at least one
/// (ENOSPC, EDQUOT). `cost` is what the tree says of all.
Task<Result<FileRoom>> find_room(FileParts& parts, const LockedInode& inode, FileRange blocks, MetadataTree::Cost cost,
                                 bool exempt_from_limits);

}  // namespace corral
