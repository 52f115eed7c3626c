/// FileData: size, and giving blocks back. For fs/file_*.cpp only.
#pragma once

#include "fs/file_parts.h"

namespace corral {

/// FileData::truncate().
Task<Result<>> set_file_size(FileParts& parts, const LockedInode& inode, std::uint64_t size);
/// Frees what lies behind the end of the file and takes kDinodeTruncateInProgress away.
Task<Result<>> finish_truncate(FileParts& parts, const LockedInode& inode);
/// Frees whole blocks; dirty data of them is forgotten.
Task<Result<>> free_file_blocks(FileParts& parts, const LockedInode& inode, FileRange blocks);

}  // namespace corral
