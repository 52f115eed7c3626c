/// FileData: size, and giving blocks back. For fs/file_*.cpp only.
#pragma once

#include "fs/file_parts.h"

namespace corral {

/// FileData::truncate().
Task<Result<>> set_file_size(FileParts& parts, const LockedInode& inode, std::uint64_t size);
/// Zeroes the rest of the block in which the file ends, before the end moves beyond it: where a node died after it had
/// written data there, and before the size was committed, that data still stands in the block.
Task<Result<>> clear_behind_end(FileParts& parts, const LockedInode& inode);
/// Frees what lies behind the end of the file and takes kDinodeTruncateInProgress away.
Task<Result<>> finish_truncate(FileParts& parts, const LockedInode& inode);
/// Frees whole blocks; dirty data of them is forgotten.
Task<Result<>> free_file_blocks(FileParts& parts, const LockedInode& inode, FileRange blocks);

}  // namespace corral
