#include "fs/acl.h"

#include <cstring>

#include <endian.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <sys/stat.h>

namespace corral {

namespace {
constexpr std::uint16_t kAllPermissions = ACL_READ | ACL_WRITE | ACL_EXECUTE;
constexpr std::uint32_t kNoId = 0xFFFFFFFF;
constexpr std::uint32_t kPermissionBits = S_IRWXU | S_IRWXG | S_IRWXO;

bool has_id(std::uint16_t tag) {
  return tag == ACL_USER || tag == ACL_GROUP;
}

/// Where entries of this tag stand in an ACL; 0 for an unknown tag.
int rank_of(std::uint16_t tag) {
  switch (tag) {
    case ACL_USER_OBJ:
      return 1;
    case ACL_USER:
      return 2;
    case ACL_GROUP_OBJ:
      return 3;
    case ACL_GROUP:
      return 4;
    case ACL_MASK:
      return 5;
    case ACL_OTHER:
      return 6;
    default:
      return 0;
  }
}

Result<> check_entries(std::span<const AclEntry> entries) {
  int last_rank = 0;
  bool names_somebody = false;
  bool has_mask = false;
  unsigned required = 0;
  for (const AclEntry& entry : entries) {
    int rank = rank_of(entry.tag);
    bool may_repeat = has_id(entry.tag);
    if (rank == 0 || rank < last_rank || (rank == last_rank && !may_repeat)) return fail(EINVAL);
    if ((entry.permissions & ~kAllPermissions) != 0) return fail(EINVAL);
    if (has_id(entry.tag) && entry.id == kNoId) return fail(EINVAL);
    last_rank = rank;
    names_somebody |= has_id(entry.tag);
    has_mask |= entry.tag == ACL_MASK;
    if (entry.tag == ACL_USER_OBJ || entry.tag == ACL_GROUP_OBJ || entry.tag == ACL_OTHER) ++required;
  }
  if (required != 3 || (names_somebody && !has_mask)) return fail(EINVAL);
  return {};
}

AclEntry* find(std::vector<AclEntry>& entries, std::uint16_t tag) {
  for (AclEntry& entry : entries)
    if (entry.tag == tag) return &entry;
  return nullptr;
}

/// What the group bits of the mode stand for.
AclEntry& group_class(std::vector<AclEntry>& entries) {
  AclEntry* mask = find(entries, ACL_MASK);
  return mask != nullptr ? *mask : *find(entries, ACL_GROUP_OBJ);
}

std::uint16_t permissions_of(std::uint32_t mode, unsigned shift) {
  return static_cast<std::uint16_t>(mode >> shift & kAllPermissions);
}
}  // namespace

bool Acl::has_no_entries(std::span<const std::byte> xattr) {
  return xattr.size() == sizeof(posix_acl_xattr_header);
}

Result<Acl> Acl::parse(std::span<const std::byte> xattr) {
  posix_acl_xattr_header header;
  if (xattr.size() < sizeof(header)) return fail(EINVAL);
  std::memcpy(&header, xattr.data(), sizeof(header));
  if (le32toh(header.a_version) != POSIX_ACL_XATTR_VERSION) return fail(EOPNOTSUPP);
  xattr = xattr.subspan(sizeof(header));
  if (xattr.size() % sizeof(posix_acl_xattr_entry) != 0) return fail(EINVAL);
  Acl acl;
  acl.entries_.reserve(xattr.size() / sizeof(posix_acl_xattr_entry));
  for (; !xattr.empty(); xattr = xattr.subspan(sizeof(posix_acl_xattr_entry))) {
    posix_acl_xattr_entry entry;
    std::memcpy(&entry, xattr.data(), sizeof(entry));
    acl.entries_.push_back({le16toh(entry.e_tag), le16toh(entry.e_perm), le32toh(entry.e_id)});
  }
  TRY_VOID(check_entries(acl.entries_));
  return acl;
}

std::vector<std::byte> Acl::serialize() const {
  posix_acl_xattr_header header{.a_version = htole32(POSIX_ACL_XATTR_VERSION)};
  std::vector<std::byte> bytes(sizeof(header) + entries_.size() * sizeof(posix_acl_xattr_entry));
  std::memcpy(bytes.data(), &header, sizeof(header));
  std::byte* out = bytes.data() + sizeof(header);
  for (const AclEntry& entry : entries_) {
    posix_acl_xattr_entry raw{.e_tag = htole16(entry.tag),
                              .e_perm = htole16(entry.permissions),
                              .e_id = htole32(has_id(entry.tag) ? entry.id : kNoId)};
    std::memcpy(out, &raw, sizeof(raw));
    out += sizeof(raw);
  }
  return bytes;
}

Acl::Equivalent Acl::equivalent_mode() const {
  std::vector<AclEntry> entries = entries_;
  std::uint32_t mode = find(entries, ACL_USER_OBJ)->permissions << 6 | group_class(entries).permissions << 3 |
                       find(entries, ACL_OTHER)->permissions;
  // Three entries are the owner, the group and the others: more would come with a mask or a name.
  return {.permissions = mode, .is_just_mode = entries.size() == 3};
}

Acl Acl::with_mode(std::uint32_t mode) const {
  Acl changed = *this;
  find(changed.entries_, ACL_USER_OBJ)->permissions = permissions_of(mode, 6);
  group_class(changed.entries_).permissions = permissions_of(mode, 3);
  find(changed.entries_, ACL_OTHER)->permissions = permissions_of(mode, 0);
  return changed;
}

AclInheritance Acl::inherit(std::uint32_t mode) const {
  Acl access = *this;
  std::uint32_t kept = 0;
  auto narrow = [mode, &kept](AclEntry& entry, unsigned shift) {
    entry.permissions &= permissions_of(mode, shift);
    kept |= std::uint32_t{entry.permissions} << shift;
  };
  narrow(*find(access.entries_, ACL_USER_OBJ), 6);
  narrow(group_class(access.entries_), 3);
  narrow(*find(access.entries_, ACL_OTHER), 0);
  AclInheritance inherited{.access = std::nullopt, .mode = (mode & ~kPermissionBits) | kept};
  if (!access.equivalent_mode().is_just_mode) inherited.access = std::move(access);
  return inherited;
}

}  // namespace corral
