/// Extended attributes of an inode: one EA block, or an indirect block of EA blocks; values inline or in blocks of
/// their own.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/task.h"
#include "fs/allocator.h"
#include "fs/inode.h"
#include "fs/volume.h"
#include "ondisk/layout.h"

namespace corral {

/// "user.", "trusted.", "security.", "system." and the rest of the name; EOPNOTSUPP for other prefixes.
struct AttributeName {
  ondisk::EaType type = ondisk::EaType::unused;
  std::string_view name;  ///< without the prefix
  static Result<AttributeName> parse(std::string_view full);
  std::string full() const;
};

enum class SetMode { create_or_replace, create, replace };

class ExtendedAttributes {
 public:
  /// Volumes of format 1801 have no trusted attributes: EOPNOTSUPP for them.
  ExtendedAttributes(Volume& volume, Allocator& allocator, std::uint32_t fs_format);

  /// ENODATA if there is none.
  Task<Result<std::vector<std::byte>>> get(const LockedInode& inode, AttributeName name);
  /// Full names, in on-disk order.
  Task<Result<std::vector<std::string>>> list(const LockedInode& inode);
  /// One transaction of its own, the inode locked exclusive; ctime becomes now. EPERM on an immutable or append-only
  /// inode, EEXIST, ENODATA, ERANGE (name too long, or too large a value for this block size), E2BIG, ENOSPC, EDQUOT.
  /// `value` stays valid until it returns.
  Task<Result<>> set(const LockedInode& inode, AttributeName name, std::span<const std::byte> value, SetMode mode);
  /// ENODATA if there is none; else as set().
  Task<Result<>> remove(const LockedInode& inode, AttributeName name);

  /// Attributes for a new inode, laid out within the creating transaction (inherited ACLs, security labels): the cost,
  /// then the deed. ENOSPC from the cost if they do not fit one EA block and its value blocks.
  struct Initial {
    AttributeName name;
    std::vector<std::byte> value;
  };
  Result<std::uint32_t> initial_blocks(std::span<const Initial> attributes) const;  ///< blocks to allot and to log
  Result<> set_initial(Transaction& transaction, Allotment& allotment, const LockedInode& inode,
                       std::span<const Initial> attributes);

  /// Together with a change of the mode (chmod on an inode with an ACL): replaces the value of an existing attribute of
  /// the same length, of at most one value block, within the caller's transaction. The inode is not touched itself.
  static constexpr std::uint32_t kReplaceLogBlocks = 2;
  Task<Result<>> replace_in_place(Transaction& transaction, const LockedInode& inode, AttributeName name,
                                  std::span<const std::byte> value);

  /// Frees all EA blocks of an inode that is being freed, in bounded transactions.
  Task<Result<>> free_all(const LockedInode& inode);

 private:
  Result<> check_supported(AttributeName name) const;
  Result<> check_changeable(const LockedInode& inode, AttributeName name) const;
  Task<Result<>> free_value_blocks(const LockedInode& inode, BlockRef block);
  Task<Result<>> free_blocks(const LockedInode& inode, std::vector<BlockNo> blocks, BlockRef indirect,
                             std::size_t place);

  Volume& volume_;
  Allocator& allocator_;
  std::uint32_t fs_format_;
};

}  // namespace corral
