/// Contents of regular files (and of symlinks and system files): reading, writing, size, holes.
///
/// Written data waits in memory (DirtyData, a bounded amount for the whole mount) and reaches the disk before the
/// transaction that allocated its blocks commits (data=ordered), on fsync, when it grows old, or when memory runs
/// short; contiguous data goes out in large writes. Blocks are allocated in write(), so ENOSPC and EDQUOT come from
/// write(2). Clean data is not cached here: the kernel's page cache holds it. Journaled-data files go through the block
/// cache and the log instead.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "base/aligned_buffer.h"
#include "base/result.h"
#include "base/task.h"
#include "fs/allocator.h"
#include "fs/inode.h"
#include "fs/metadata_tree.h"
#include "fs/volume.h"
#include "journal/journal.h"

namespace corral {

class FileData {
 public:
  FileData(Volume& volume, Allocator& allocator, MetadataTree& tree, std::uint64_t dirty_limit_bytes);
  ~FileData();

  /// Reads [offset, offset + out.size()) or up to the end of the file; returns bytes read. Holes and blocks beyond what
  /// was written read as zeros. `out` is aligned memory (AlignedBuffer) so that whole blocks are read in place.
  Task<Result<std::size_t>> read(const LockedInode& inode, std::uint64_t offset, std::span<std::byte> out);

  /// Writes all of `data` at `offset` (the caller has dealt with O_APPEND), growing the file; mtime and ctime become
  /// `now`. Either everything is written, or the error came before anything changed, or (ENOSPC, EDQUOT halfway) the
  /// number of bytes that were written is returned. EFBIG past the greatest file size. `data` may be any memory.
  struct WriteOptions {
    bool direct = false;              ///< O_DIRECT: on the disk before it returns, aligned parts without a copy
    bool keep_times = false;          ///< the kernel's write-back owns mtime
    bool exempt_from_limits = false;  ///< the writer may exceed quota limits (root)
  };
  Task<Result<std::size_t>> write(const LockedInode& inode, std::uint64_t offset, std::span<const std::byte> data,
                                  WriteOptions options);

  /// Sets the size; frees what lies beyond (crash safe: kDinodeTruncateInProgress as the kernel has it), zeroes the
  /// rest of the last block. mtime and ctime become now.
  Task<Result<>> truncate(const LockedInode& inode, std::uint64_t size);
  /// At mount or after a recovery: completes a truncation that a crash interrupted.
  Task<Result<>> resume_truncate(const LockedInode& inode);

  /// fallocate modes: FALLOC_FL_KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE and 0; EOPNOTSUPP for others. New blocks are zeroed
  /// on the disk (GFS2 has no unwritten extents).
  Task<Result<>> allocate(const LockedInode& inode, int mode, std::uint64_t offset, std::uint64_t length,
                          bool exempt_from_limits = false);
  /// SEEK_DATA / SEEK_HOLE; ENXIO as lseek(2) says.
  Task<Result<std::uint64_t>> seek(const LockedInode& inode, std::uint64_t offset, bool want_data);

  /// Writes all dirty data of the inode and waits for it. Data that an earlier background write failed for is tried
  /// again; as long as that fails, so does this, and the data stays.
  Task<Result<>> write_back(Inode& inode);
  Task<Result<>> write_back_all();
  /// Forgets dirty data without writing (inode being freed, withdraw); waits for writes in flight.
  Task<void> discard(Inode& inode);

  /// Frees all contents of an inode that is being freed.
  Task<Result<>> free_contents(const LockedInode& inode);
  /// FS_JOURNAL_DATA_FL: changes the data mode of a regular file; writes back everything before.
  Task<Result<>> set_journaled_data(const LockedInode& inode, bool on);

  std::uint64_t dirty_bytes() const;
  /// Greatest file size in bytes for this block size.
  std::uint64_t max_file_bytes() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace corral
