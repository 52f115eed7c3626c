/// New bytes for a part of a file whose blocks exist, or will by the time they are put in: the one way by which file
/// contents change in memory, for writing and for zeroing, ordered and journaled.
///
/// prepare() reads what the blocks at both ends hold besides the new bytes; then, with the blocks allocated, store()
/// puts everything in without waiting for data. The inode stays locked exclusive in between.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/aligned_buffer.h"
#include "fs/file_parts.h"

namespace corral {

class FilePatch {
 public:
  /// `data` becomes the file's bytes from `offset` on; it stays valid as long as the patch is used.
  FilePatch(FileParts& parts, const LockedInode& inode, std::uint64_t offset, std::span<const std::byte> data)
      : FilePatch(parts, inode, offset, data.data(), data.size()) {}
  /// Bytes [offset, offset + length) become zeros.
  static FilePatch zeros(FileParts& parts, const LockedInode& inode, std::uint64_t offset, std::uint64_t length) {
    return FilePatch(parts, inode, offset, nullptr, length);
  }

  Task<Result<>> prepare();
  /// Only the first `length` bytes after all; they end at a block's end.
  void shorten(std::uint64_t length);
  /// Blocks that store() adds to the transaction.
  std::uint32_t log_blocks() const;
  FileRange blocks() const { return parts_.blocks_of(offset_, length_); }
  std::uint64_t offset() const { return offset_; }
  std::uint64_t length() const { return length_; }

  /// A part of the blocks was allocated by this transaction.
  void allocated(Extent extent);
  /// The data must be on the disk before the transaction commits, although no block is new.
  void precede_commit() { ordered_ = true; }
  /// `transaction` may be null if the data is neither journaled nor ordered.
  Task<Result<>> store(Transaction* transaction);

 private:
  FilePatch(FileParts& parts, const LockedInode& inode, std::uint64_t offset, const std::byte* data,
            std::uint64_t length);
  Task<Result<AlignedBuffer>> read_base(std::uint64_t block);
  bool covers(std::uint64_t block) const;
  void fill(std::uint64_t block, std::span<std::byte> bytes, bool fresh) const;
  void store_ordered(MappedRun run, std::uint64_t allocated_in);
  void store_journaled(MappedRun run, Transaction& transaction);

  FileParts& parts_;
  const LockedInode& inode_;
  std::uint64_t offset_;
  const std::byte* data_;  ///< null: zeros
  std::uint64_t length_;
  bool ordered_ = false;
  AlignedBuffer head_;          ///< what the first block holds; empty: zeros, or nothing of it is needed
  AlignedBuffer tail_;          ///< the same of the last block, if that is another
  std::vector<BlockRef> held_;  ///< journaled data that store() must find in memory
};

}  // namespace corral
