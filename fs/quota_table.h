/// Counting blocks by user and group, and their limits.
///
/// Every charge goes, in the transaction of the allocation, into this node's quota_change file (QuotaChanges); sync()
/// adds the changes to the quota file (QuotaFile) and clears them, in one transaction. With quota=on nobody is promised
/// more than limits allow, the promises that are outstanding included.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "base/result.h"
#include "base/sync.h"
#include "base/task.h"
#include "fs/allocator.h"
#include "fs/quota_changes.h"
#include "fs/quota_file.h"
#include "fs/volume.h"

namespace corral {

class QuotaTable {
 public:
  QuotaTable(Volume& volume, Allocator& allocator, MetadataTree& tree);
  ~QuotaTable();

  /// `changes` is null on a mount that writes nothing. Reads what an earlier mount left, unless quota=off.
  Task<Result<>> open(InodeRef quota, InodeRef changes);
  void close();

  /// True if blocks are counted at all (quota=account or on, and the mount can write).
  bool accounting() const { return changes_.is_open(); }
  /// Log blocks of the charges that one Room is for.
  std::uint32_t log_blocks() const { return accounting() ? kSlotsPerRoom : 0; }

  /// The right to charge two owners in one transaction without waiting for anything; given back when destroyed.
  class [[nodiscard]] Room {
   public:
    Room() = default;
    Room(Room&& other) noexcept : table_(std::exchange(other.table_, nullptr)) {}
    Room& operator=(Room&& other) noexcept {
      std::swap(table_, other.table_);
      return *this;
    }
    ~Room() {
      if (table_ != nullptr) --table_->rooms_;
    }

   private:
    friend class QuotaTable;
    explicit Room(QuotaTable* table) : table_(table) {}
    QuotaTable* table_ = nullptr;
  };
  /// To be had before the glocks of resource groups. Syncs if all slots are in use; ENOSPC if that does not help.
  Task<Result<Room>> prepare();

  /// The owner may be charged with so many more blocks; counted against others until used or destroyed.
  class [[nodiscard]] Promise {
   public:
    Promise() = default;
    Promise(Promise&& other) noexcept
        : table_(std::exchange(other.table_, nullptr)), owner_(other.owner_), blocks_(other.blocks_) {}
    Promise& operator=(Promise&& other) noexcept {
      std::swap(table_, other.table_);
      std::swap(owner_, other.owner_);
      std::swap(blocks_, other.blocks_);
      return *this;
    }
    ~Promise() { give_up(blocks_); }
    /// Blocks that may still be charged; without limits more than anybody asks for.
    std::uint64_t blocks() const { return table_ == nullptr ? ~std::uint64_t{0} : blocks_; }
    /// So many are charged now, or not wanted any more.
    void give_up(std::uint64_t blocks);

   private:
    friend class QuotaTable;
    QuotaTable* table_ = nullptr;  ///< null: there are no limits
    Ownership owner_;
    std::uint64_t blocks_ = 0;
  };
  /// EDQUOT if the owner may not have `least` blocks more; promises up to `least + more`. Warns as the limits say.
  /// Without quota=on everything is promised.
  Task<Result<Promise>> promise(Ownership owner, std::uint64_t least, std::uint64_t more);

  /// Charges the owner (negative: gives back). Needs a Room; fails only before anything is changed.
  Result<> charge(Transaction& transaction, Ownership owner, std::int64_t blocks);
  /// From one owner to another, where user or group differ.
  Task<Result<>> transfer(Transaction& transaction, Ownership from, Ownership to, std::int64_t blocks);

  Task<Result<QuotaFigures>> figures(QuotaId id);
  Task<Result<>> set_limits(QuotaId id, std::optional<std::uint64_t> limit, std::optional<std::uint64_t> warn);
  Task<Result<std::vector<QuotaRecord>>> records();
  Task<Result<>> set_usage(QuotaId id, std::uint64_t blocks);
  /// Changes for which the quota file cannot grow stay where they are, with a warning.
  Task<Result<>> sync();
  void add_to(LogHeaderExtras& extras) const;
  /// If that is the quota file's inode: another node may change it from now on.
  void forget_records(BlockNo inode);

 private:
  /// A user's and a group's slot for each of two owners.
  static constexpr std::uint32_t kSlotsPerRoom = 4;

  struct Entry {
    std::optional<QuotaChanges::Slot> slot;
    std::int64_t change = 0;  ///< of this node, not yet in the quota file
    std::uint64_t promised = 0;
    std::optional<QuotaFigures> record;  ///< the quota file's, as last seen
    std::optional<Time> last_warning;
    bool told_exceeded = false;
  };

  bool enforcing() const { return accounting() && volume_.options.quota == QuotaMode::on; }
  Task<Result<>> look_up(QuotaId id);
  /// Blocks that the limit leaves; warns.
  std::uint64_t allowance(QuotaId id, std::uint64_t least);
  void charge_one(Transaction& transaction, QuotaId id, std::int64_t blocks);
  void write_change(Transaction& transaction, QuotaId id, Entry& entry, std::int64_t change);
  void fold(Transaction& transaction, QuotaId id, ondisk::Quota& record);
  void forget_unchanged();

  Volume& volume_;
  Allocator& allocator_;
  MetadataTree& tree_;
  QuotaChanges changes_;
  BlockNo changes_inode_;
  std::optional<QuotaFile> file_;
  std::map<QuotaId, Entry> entries_;
  std::uint32_t rooms_ = 0;
  Mutex syncing_;
};

}  // namespace corral
