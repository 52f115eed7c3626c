/// POSIX ACLs as pure functions over the xattr format (posix_acl_xattr_header/entry of linux/posix_acl_xattr.h: version
/// 2, little-endian entries of tag, perm, id).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/result.h"

namespace corral {

struct AclEntry {
  std::uint16_t tag = 0;  ///< ACL_USER_OBJ ... ACL_OTHER
  std::uint16_t permissions = 0;
  std::uint32_t id = 0;  ///< uid or gid for ACL_USER, ACL_GROUP
};

struct AclInheritance;

class Acl {
 public:
  /// EINVAL unless it is a well-formed ACL: the classes of entries in order, the required ones once each, a mask where
  /// users or groups are named. EOPNOTSUPP for another version. Like the kernel it takes named entries in any order.
  static Result<Acl> parse(std::span<const std::byte> xattr);
  /// True of an attribute without entries: setting it means removing the ACL.
  static bool has_no_entries(std::span<const std::byte> xattr);
  /// Most entries that GFS2 stores in an inode of that block size (E2BIG beyond).
  static std::size_t max_entries(std::uint32_t block_size) { return std::size_t{300} * block_size / 4096; }
  std::vector<std::byte> serialize() const;
  const std::vector<AclEntry>& entries() const { return entries_; }

  /// The permission bits that this access ACL stands for (mask as the group bits), and whether it says no more than
  /// them.
  struct Equivalent {
    std::uint32_t permissions;
    bool is_just_mode;
  };
  Equivalent equivalent_mode() const;
  /// This ACL after chmod(mode).
  Acl with_mode(std::uint32_t mode) const;
  /// For an inode made with `mode` in a directory with this default ACL.
  AclInheritance inherit(std::uint32_t mode) const;

 private:
  std::vector<AclEntry> entries_;
};

/// What a new inode gets from its directory's default ACL: its mode and its access ACL (none if the mode says it all).
/// A directory also inherits the default ACL itself.
struct AclInheritance {
  std::optional<Acl> access;
  std::uint32_t mode;
};

}  // namespace corral
