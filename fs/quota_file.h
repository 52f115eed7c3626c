/// The quota file: struct gfs2_quota records at (2 * id, plus 1 for groups) * 88 bytes, users and groups taking turns.
/// Sparse; ends after the record of the largest id that was ever charged. Records straddle blocks. Its data is logged.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <vector>

#include "base/result.h"
#include "base/task.h"
#include "fs/allocator.h"
#include "fs/inode.h"
#include "fs/metadata_tree.h"
#include "fs/quota_changes.h"
#include "fs/volume.h"
#include "journal/journal.h"

namespace corral {

class QuotaFile {
 public:
  QuotaFile(Volume& volume, Allocator& allocator, MetadataTree& tree, InodeRef inode)
      : volume_(volume), allocator_(allocator), tree_(tree), inode_(std::move(inode)) {}

  BlockNo inode() const { return inode_->address(); }
  /// The record as it stands in the file; zeros where there is none.
  Task<Result<ondisk::Quota>> read(QuotaId id);
  /// Every record that is not all zeros, by its number. EFBIG for more than kMostRecords.
  Task<Result<std::map<std::uint64_t, ondisk::Quota>>> read_all();
  static constexpr std::size_t kMostRecords = 1'000'000;
  /// Changes records, growing the file where needed, several records in one transaction. `change` gets each record
  /// inside its transaction and may log up to `log_blocks` blocks for it; it must not fail. ENOSPC if the file could
  /// not grow for all of them; those for which it need not, or could, are changed nevertheless.
  using Change = std::function<void(Transaction&, QuotaId, ondisk::Quota&)>;
  Task<Result<>> update(std::vector<QuotaId> ids, std::uint32_t log_blocks, const Change& change);

 private:
  Task<Result<>> update_some(std::span<const QuotaId> ids, std::uint32_t log_blocks, const Change& change);
  Task<Result<>> unstuff(const LockedInode& inode);
  /// The one or two blocks that the record lies in; null for a hole.
  Task<Result<std::vector<BlockRef>>> record_blocks(const LockedInode& inode, QuotaId id);
  void create_block(Transaction& transaction, const LockedInode& inode, BlockNo block,
                    std::span<const std::byte> contents);
  void touch(Transaction& transaction, const LockedInode& inode, std::uint64_t end_bytes);

  Volume& volume_;
  Allocator& allocator_;
  MetadataTree& tree_;
  InodeRef inode_;
};

}  // namespace corral
