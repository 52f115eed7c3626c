/// This node's quota_changeN file: one slot (struct gfs2_quota_change) for each user or group whose usage has changed
/// since the last sync. The file is preallocated and held exclusively for the whole mount. A slot whose change is 0 is
/// free.
#pragma once

#include <cstdint>
#include <set>
#include <vector>

#include "base/result.h"
#include "base/task.h"
#include "fs/allocator.h"
#include "fs/inode.h"
#include "fs/metadata_tree.h"
#include "fs/volume.h"
#include "journal/journal.h"

namespace corral {

/// A user or a group.
struct QuotaId {
  QuotaKind kind = QuotaKind::user;
  std::uint32_t id = 0;
  auto operator<=>(const QuotaId&) const = default;
  /// Number of its record in the quota file.
  std::uint64_t record() const { return std::uint64_t{id} * 2 + (kind == QuotaKind::group ? 1 : 0); }
  static QuotaId of_record(std::uint64_t number) {
    return {number % 2 == 0 ? QuotaKind::user : QuotaKind::group, static_cast<std::uint32_t>(number / 2)};
  }
};

class QuotaChanges {
 public:
  using Slot = std::uint32_t;

  QuotaChanges(Volume& volume, MetadataTree& tree) : volume_(volume), tree_(tree) {}

  struct Change {
    Slot slot;
    QuotaId id;
    std::int64_t blocks;
  };
  /// Takes the file's glock and reads what an earlier mount left.
  Task<Result<std::vector<Change>>> open(InodeRef inode);
  void close();
  bool is_open() const { return inode_.held(); }
  BlockNo inode() const { return inode_.address(); }

  /// Reads blocks until that many free slots can be taken; false if the file has no more.
  Task<Result<bool>> make_available(std::size_t slots);
  std::size_t available() const { return free_.size(); }
  /// The lowest free slot; one must be available().
  Slot take();
  /// Logs one block. A change of 0 makes the slot free.
  void write(Transaction& transaction, const Change& change);

 private:
  Result<> read_slots(std::span<const std::byte> piece, std::vector<Change>& changes);
  Task<Result<>> load(std::uint32_t block);
  std::uint32_t per_block() const { return volume_.geometry.quota_changes_per_block(); }

  Volume& volume_;
  MetadataTree& tree_;
  LockedInode inode_;
  std::vector<BlockRef> blocks_;  ///< of the file; null until needed
  std::uint32_t next_to_load_ = 0;
  std::set<Slot> used_;
  std::set<Slot> free_;  ///< in loaded blocks
};

}  // namespace corral
