// stat, chmod, chown, utimensat, chattr, extended attributes, ACLs.
#include <algorithm>
#include <array>

#include <linux/fs.h>
#include <sys/stat.h>

#include "fs/filesystem.h"
#include "fs/operations.h"
#include "fs/symlink_target.h"

namespace corral {

using namespace ondisk;

namespace {

constexpr AttributeName kAccessAcl{EaType::system, "posix_acl_access"};
constexpr AttributeName kDefaultAcl{EaType::system, "posix_acl_default"};
constexpr AttributeName kCapability{EaType::security, "capability"};
constexpr std::uint32_t kPermissionBits = 07777;

void set_time(be64& seconds, be32& nanoseconds, WallTime time) {
  seconds = static_cast<std::uint64_t>(time.seconds);
  nanoseconds = time.nanoseconds;
}

/// FS_*_FL bits and the dinode flags they stand for. Journaled data means inheritance in directories.
struct FlagPair {
  std::uint32_t user;
  std::uint32_t dinode;
};
constexpr std::array kFlagPairs{FlagPair{FS_SYNC_FL, kDinodeSync}, FlagPair{FS_IMMUTABLE_FL, kDinodeImmutable},
                                FlagPair{FS_APPEND_FL, kDinodeAppendOnly}, FlagPair{FS_NOATIME_FL, kDinodeNoAtime},
                                FlagPair{FS_TOPDIR_FL, kDinodeTopDirectory}};

std::uint32_t journal_flag(bool is_directory) {
  return is_directory ? kDinodeInheritJournaledData : kDinodeJournaledData;
}

std::uint32_t user_flags(const LockedInode& inode) {
  const std::uint32_t flags = inode.dinode().flags;
  std::uint32_t user = 0;
  for (const FlagPair& pair : kFlagPairs) {
    if ((flags & pair.dinode) != 0) user |= pair.user;
  }
  if ((flags & journal_flag(inode.is_directory())) != 0) user |= FS_JOURNAL_DATA_FL;
  if (inode.is_directory() && (flags & kDinodeHashedDirectory) != 0) user |= FS_INDEX_FL;
  return user;
}

}  // namespace

Task<Result<Attributes>> Operations::get_attributes(BlockNo inode) {
  CO_TRY(LockedInode locked, co_await lock(inode, GlockMode::shared));
  co_return attributes_of(locked.dinode(), fs_.volume().geometry);
}

Task<Result<Attributes>> Operations::set_attributes(BlockNo inode, AttributeChange change, Caller caller) {
  CO_TRY(const GlockHolder changing, co_await fs_.volume().change());
  CO_TRY(LockedInode locked, co_await lock_to_change(inode));
  const std::uint32_t flags = locked.dinode().flags;
  if ((flags & kDinodeImmutable) != 0) co_return fail(EPERM);
  const bool more_than_touches = change.mode || change.uid || change.gid || change.size_bytes || change.chosen_times;
  if ((flags & kDinodeAppendOnly) != 0 && more_than_touches) {
    co_return fail(EPERM);
  }
  if (change.size_bytes) {
    if (locked.is_directory()) co_return fail(EISDIR);
    if (!locked.is_regular()) co_return fail(EINVAL);
    CO_TRY_VOID(co_await drop_privileges(locked, change.kill_set_ids, caller));
    if (*change.size_bytes != locked.size_bytes() || !change.mtime) {
      CO_TRY_VOID(co_await fs_.data().truncate(locked, *change.size_bytes));
    }
  }
  if (change.uid || change.gid) {
    const Ownership owner{.uid = change.uid.value_or(locked.dinode().uid),
                          .gid = change.gid.value_or(locked.dinode().gid)};
    if (caller.uid != 0) {
      CO_TRY_VOID(co_await fs_.allocator().check_quota(owner, locked.dinode().blocks));
    }
    CO_TRY_VOID(co_await drop_privileges(locked, false, caller));
  }
  CO_TRY_VOID(co_await change_attributes(locked, change, caller));
  co_return attributes_of(locked.dinode(), fs_.volume().geometry);
}

/// The mode without what a change of contents or owner takes away, by the rules of Linux's own filesystems.
std::uint32_t Operations::without_set_ids(const LockedInode& inode, const Caller& caller) const {
  std::uint32_t mode = inode.mode_bits() & ~std::uint32_t{S_ISUID};
  if ((mode & S_ISGID) == 0) return mode;
  const bool keeps_setgid = (mode & S_IXGRP) == 0 && (caller.uid == 0 || fs_.in_group(caller, inode.dinode().gid));
  return keeps_setgid ? mode : mode & ~std::uint32_t{S_ISGID};
}

/// Everything but the size, in one transaction.
Task<Result<>> Operations::change_attributes(const LockedInode& inode, const AttributeChange& change, Caller caller) {
  const bool chowns = change.uid || change.gid;
  if (!change.mode && !chowns && !change.atime && !change.mtime && !change.ctime && !change.kill_set_ids) {
    co_return Result<>{};
  }
  std::uint32_t mode = inode.mode_bits();
  if ((chowns || change.kill_set_ids) && !inode.is_directory()) mode = without_set_ids(inode, caller);
  std::vector<std::byte> access_acl;
  if (change.mode) {
    mode = (mode & ~kPermissionBits) | (*change.mode & kPermissionBits);
    if (inode.dinode().eattr != 0 && fs_.volume().options.acl) {
      auto value = co_await fs_.attributes().get(inode, kAccessAcl);
      if (!value && value.error().code() != ENODATA) co_return std::unexpected(value.error());
      if (value) {
        CO_TRY(Acl acl, Acl::parse(*value));
        access_acl = acl.with_mode(mode).serialize();
      }
    }
  }
  TransactionSize size;
  size.blocks = 1 + (chowns ? fs_.allocator().quota_log_blocks() : 0) +
                (access_acl.empty() ? 0 : ExtendedAttributes::kReplaceLogBlocks);
  CO_TRY(Transaction transaction, co_await fs_.volume().journal->begin(size));
  if (!access_acl.empty()) {
    CO_TRY_VOID(co_await fs_.attributes().replace_in_place(transaction, inode, kAccessAcl, access_acl));
  }
  if (chowns) {
    const Ownership from = ownership_of(inode.dinode());
    Ownership to = from;
    to.uid = change.uid.value_or(from.uid);
    to.gid = change.gid.value_or(from.gid);
    Result<> moved = co_await fs_.allocator().transfer_quota(transaction, from, to, inode.dinode().blocks);
    if (!moved) co_return std::unexpected(broken(moved.error()));
  }
  Dinode& dinode = inode.modify(transaction);
  dinode.mode = mode;
  if (change.uid) dinode.uid = *change.uid;
  if (change.gid) dinode.gid = *change.gid;
  if (change.atime) set_time(dinode.atime, dinode.atime_nanoseconds, *change.atime);
  if (change.mtime) set_time(dinode.mtime, dinode.mtime_nanoseconds, *change.mtime);
  set_time(dinode.ctime, dinode.ctime_nanoseconds, change.ctime.value_or(now()));
  co_return Result<>{};
}

/// What a change of contents takes away: file capabilities always, set-id bits where the kernel says so.
Task<Result<>> Operations::drop_privileges(const LockedInode& inode, bool kill_set_ids, Caller caller) {
  if (inode.dinode().eattr != 0) {
    auto capability = co_await fs_.attributes().get(inode, kCapability);
    if (capability) {
      CO_TRY_VOID(co_await fs_.attributes().remove(inode, kCapability));
    } else if (capability.error().code() != ENODATA) {
      co_return std::unexpected(capability.error());
    }
  }
  if (!kill_set_ids || without_set_ids(inode, caller) == inode.mode_bits()) co_return Result<>{};
  AttributeChange change;
  change.kill_set_ids = true;
  co_return co_await change_attributes(inode, change, caller);
}

bool Operations::access_is_due(const LockedInode& inode) const {
  if (fs_.volume().options.atime == AtimePolicy::noatime || !fs_.volume().writable()) return false;
  const Dinode& dinode = inode.dinode();
  if ((dinode.flags & kDinodeNoAtime) != 0) return false;
  if (fs_.volume().options.atime == AtimePolicy::strictatime) return true;
  constexpr std::int64_t kDaySeconds = 24 * 3600;
  const Attributes times = attributes_of(dinode, fs_.volume().geometry);
  return times.atime <= times.mtime || times.atime <= times.ctime || times.atime.seconds < now().seconds - kDaySeconds;
}

Task<void> Operations::accessed(BlockNo inode) {
  {
    // Most reads find the time as it should be: they must not wait for each other.
    auto locked = co_await lock(inode, GlockMode::shared);
    if (!locked || !access_is_due(*locked)) co_return;
  }
  // A reader does not wait for the end of a freeze: the next one after it sets the time.
  const auto changing = fs_.volume().try_change();
  if (!changing) co_return;
  auto locked = co_await lock_to_change(inode);
  if (!locked || !access_is_due(*locked)) co_return;
  auto transaction = co_await fs_.volume().journal->begin({.blocks = 1, .revokes = 0});
  if (!transaction) co_return;
  Dinode& dinode = locked->modify(*transaction);
  set_time(dinode.atime, dinode.atime_nanoseconds, now());
}

Task<Result<std::uint32_t>> Operations::get_flags(BlockNo inode) {
  CO_TRY(LockedInode locked, co_await lock(inode, GlockMode::shared));
  if (!locked.is_regular() && !locked.is_directory()) co_return fail(ENOTTY);
  co_return user_flags(locked);
}

Task<Result<>> Operations::set_flags(BlockNo inode, std::uint32_t flags, Caller caller) {
  CO_TRY(const GlockHolder changing, co_await fs_.volume().change());
  CO_TRY(LockedInode locked, co_await lock_to_change(inode));
  if (!locked.is_regular() && !locked.is_directory()) co_return fail(ENOTTY);
  const std::uint32_t old_flags = user_flags(locked);
  const std::uint32_t changed = old_flags ^ flags;
  std::uint32_t settable = FS_JOURNAL_DATA_FL;
  for (const FlagPair& pair : kFlagPairs)
    settable |= pair.user;
  if ((changed & ~settable) != 0) co_return fail(EINVAL);
  if ((changed & FS_TOPDIR_FL) != 0 && !locked.is_directory()) co_return fail(EINVAL);
  if (caller.uid != 0 && (changed & (FS_IMMUTABLE_FL | FS_APPEND_FL)) != 0) co_return fail(EPERM);
  if (caller.uid != 0 && caller.uid != locked.dinode().uid) co_return fail(EACCES);
  if (changed == 0) co_return Result<>{};
  // A file that must not change may only be given back its freedom.
  const bool frees = (changed & (FS_IMMUTABLE_FL | FS_APPEND_FL)) != 0;
  if (!frees && (old_flags & (FS_IMMUTABLE_FL | FS_APPEND_FL)) != 0) co_return fail(EPERM);

  if ((changed & FS_JOURNAL_DATA_FL) != 0 && locked.is_regular()) {
    CO_TRY_VOID(co_await fs_.data().set_journaled_data(locked, (flags & FS_JOURNAL_DATA_FL) != 0));
  }
  CO_TRY(Transaction transaction, co_await fs_.volume().journal->begin({.blocks = 1, .revokes = 0}));
  Dinode& dinode = locked.modify(transaction);
  std::uint32_t bits = dinode.flags;
  for (const FlagPair& pair : kFlagPairs)
    bits = (flags & pair.user) != 0 ? bits | pair.dinode : bits & ~pair.dinode;
  if (locked.is_directory()) {
    const std::uint32_t inherit = journal_flag(true);
    bits = (flags & FS_JOURNAL_DATA_FL) != 0 ? bits | inherit : bits & ~inherit;
  }
  dinode.flags = bits;
  set_time(dinode.ctime, dinode.ctime_nanoseconds, now());
  co_return Result<>{};
}

/// Of system attributes there are the ACLs alone, and with noacl not even these. Symlinks' targets are no attributes to
/// users.
Result<AttributeName> Operations::parse_name(std::string_view full) const {
  TRY(AttributeName name, AttributeName::parse(full));
  const bool is_acl = name.name == kAccessAcl.name || name.name == kDefaultAcl.name;
  if (name.type == EaType::system && !(is_acl && fs_.volume().options.acl)) return fail(EOPNOTSUPP);
  if (name.type == kSymlinkTarget.type && name.name == kSymlinkTarget.name) return fail(EOPNOTSUPP);
  return name;
}

Task<Result<std::vector<std::byte>>> Operations::get_xattr(BlockNo inode, std::string name) {
  CO_TRY(AttributeName parsed, parse_name(name));
  CO_TRY(LockedInode locked, co_await lock(inode, GlockMode::shared));
  co_return co_await fs_.attributes().get(locked, parsed);
}

Task<Result<std::vector<std::string>>> Operations::list_xattr(BlockNo inode) {
  CO_TRY(LockedInode locked, co_await lock(inode, GlockMode::shared));
  CO_TRY(std::vector<std::string> names, co_await fs_.attributes().list(locked));
  if (locked.is_symlink()) std::erase(names, kSymlinkTarget.full());
  co_return names;
}

Task<Result<>> Operations::set_xattr(BlockNo inode, std::string name, std::vector<std::byte> value, SetMode mode,
                                     bool kill_setgid) {
  CO_TRY(AttributeName parsed, parse_name(name));
  CO_TRY(const GlockHolder changing, co_await fs_.volume().change());
  CO_TRY(LockedInode locked, co_await lock_to_change(inode));
  if ((locked.dinode().flags & (kDinodeImmutable | kDinodeAppendOnly)) != 0) co_return fail(EPERM);
  if (parsed.type == EaType::system) co_return co_await set_acl(locked, parsed, value, kill_setgid);
  co_return co_await fs_.attributes().set(locked, parsed, value, mode);
}

Task<Result<>> Operations::set_acl(const LockedInode& inode, AttributeName name, std::span<const std::byte> value,
                                   bool kill_setgid) {
  const bool is_access = name.name == kAccessAcl.name;
  if (inode.is_symlink()) co_return fail(EOPNOTSUPP);
  if (!is_access && !inode.is_directory()) co_return fail(EACCES);
  CO_TRY(Acl acl, Acl::parse(value));
  if (acl.entries().size() > Acl::max_entries(fs_.volume().geometry.block_size())) co_return fail(E2BIG);
  if (!is_access) co_return co_await fs_.attributes().set(inode, name, value, SetMode::create_or_replace);

  // The attribute first: it may want blocks that are not there, and then the mode must not have changed either.
  const Acl::Equivalent equivalent = acl.equivalent_mode();
  if (equivalent.is_just_mode) {
    Result<> removed = co_await fs_.attributes().remove(inode, name);
    if (!removed && removed.error().code() != ENODATA) co_return removed;
  } else {
    CO_TRY_VOID(co_await fs_.attributes().set(inode, name, value, SetMode::create_or_replace));
  }
  AttributeChange change;
  change.mode = (inode.mode_bits() & kPermissionBits & ~0777u) | equivalent.permissions;
  if (kill_setgid) *change.mode &= ~std::uint32_t{S_ISGID};
  co_return co_await change_attributes(inode, change, {});
}

Task<Result<>> Operations::remove_xattr(BlockNo inode, std::string name) {
  CO_TRY(AttributeName parsed, parse_name(name));
  CO_TRY(const GlockHolder changing, co_await fs_.volume().change());
  CO_TRY(LockedInode locked, co_await lock_to_change(inode));
  if ((locked.dinode().flags & (kDinodeImmutable | kDinodeAppendOnly)) != 0) co_return fail(EPERM);
  co_return co_await fs_.attributes().remove(locked, parsed);
}

}  // namespace corral
