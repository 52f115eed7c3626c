/// Lays a directory out from a list of its names: how damaged ones are repaired, and how names are added.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "fsck/volume.h"

namespace corral::fsck {

struct NameEntry {
  std::string name;
  ondisk::InodeIdentity inode;
  std::uint8_t type = 0;  ///< DT_*
};

/// Makes `directory` (its dinode passes check_dinode() except for what is set here) hold the entries, "." and ".."
/// among them, in new blocks; writes them and the dinode. `old_blocks`, the blocks of its old table and leaves, are
/// given up, and taken where no others are free. ENOSPC, with nothing changed.
Task<Result<>> lay_out_directory(Volume& volume, BlockNo directory, std::vector<NameEntry> entries,
                                 std::span<const BlockNo> old_blocks);

/// All names of a sound directory, and its blocks besides the dinode and extended attributes.
struct DirectoryContents {
  std::vector<NameEntry> entries;
  std::vector<BlockNo> blocks;
};
Task<Result<DirectoryContents>> read_directory(Volume& volume, BlockNo directory);

}  // namespace corral::fsck
