/// FileData: writing. For fs/file_*.cpp only.
#pragma once

#include "fs/file_data.h"
#include "fs/file_parts.h"

namespace corral {

/// FileData::write().
Task<Result<std::size_t>> write_file(FileParts& parts, const LockedInode& inode, std::uint64_t offset,
                                     std::span<const std::byte> data, FileData::WriteOptions options);

/// Puts stuffed contents into a block of their own, with room for it in `allotment`.
Task<Result<>> unstuff_file(FileParts& parts, Transaction& transaction, Allotment& allotment, const LockedInode& inode);

/// Waits until writes started with DirtyData::write_through() have ended; their first error.
Task<Result<>> finish_pending(std::shared_ptr<PendingWrites> pending);

}  // namespace corral
