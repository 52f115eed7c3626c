/// FileData: fallocate(2). For fs/file_*.cpp only.
#pragma once

#include "fs/file_parts.h"

namespace corral {

/// FileData::allocate().
Task<Result<>> allocate_file(FileParts& parts, const LockedInode& inode, int mode, std::uint64_t offset,
                             std::uint64_t length, bool exempt_from_limits);

}  // namespace corral
