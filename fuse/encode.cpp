#include "fuse/encode.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include <fcntl.h>

namespace corral {

namespace {
/// Preferred I/O size: smaller ones would make programs write in pieces that cost a request each.
constexpr std::uint32_t kLeastPreferredBytes = 4096;

struct FlagPair {
  std::uint32_t flag;
  std::uint32_t extended;
};
constexpr std::array kFlagPairs{
    FlagPair{FS_SYNC_FL, FS_XFLAG_SYNC},       FlagPair{FS_IMMUTABLE_FL, FS_XFLAG_IMMUTABLE},
    FlagPair{FS_APPEND_FL, FS_XFLAG_APPEND},   FlagPair{FS_NODUMP_FL, FS_XFLAG_NODUMP},
    FlagPair{FS_NOATIME_FL, FS_XFLAG_NOATIME},
};
}  // namespace

int encode_error(const Error& error) {
  // The kernel knows no codes beyond.
  constexpr int kMostCode = 511;
  const int code = error.code();
  if (code <= 0 || code > kMostCode) return EIO;
  // It would make the kernel stop asking.
  if (code == ENOSYS) return EOPNOTSUPP;
  const bool of_use = code == ENOSPC || code == EROFS || code == EOPNOTSUPP;
  return error.kind() == ErrorKind::device && !of_use ? EIO : code;
}

fuse_attr encode_attributes(const Attributes& attributes, std::uint32_t block_size) {
  return {
      .ino = attributes.inode.value,
      .size = attributes.size_bytes,
      .blocks = attributes.blocks_512,
      .atime = static_cast<std::uint64_t>(attributes.atime.seconds),
      .mtime = static_cast<std::uint64_t>(attributes.mtime.seconds),
      .ctime = static_cast<std::uint64_t>(attributes.ctime.seconds),
      .atimensec = attributes.atime.nanoseconds,
      .mtimensec = attributes.mtime.nanoseconds,
      .ctimensec = attributes.ctime.nanoseconds,
      .mode = attributes.mode,
      .nlink = attributes.nlink,
      .uid = attributes.uid,
      .gid = attributes.gid,
      .rdev = encode_device(attributes.device_major, attributes.device_minor),
      .blksize = std::max(block_size, kLeastPreferredBytes),
      .flags = 0,
  };
}

fuse_attr_out encode_attribute_answer(const Attributes& attributes, std::uint32_t block_size,
                                      const Validity& validity) {
  return {.attr_valid = validity.attributes_seconds,
          .attr_valid_nsec = 0,
          .dummy = 0,
          .attr = encode_attributes(attributes, block_size)};
}

fuse_entry_out encode_entry(const Entry& entry, const NodeNumbers& numbers, std::uint32_t block_size,
                            const Validity& validity) {
  std::uint64_t node = numbers.to_node(entry.attributes.inode);
  return {.nodeid = node,
          // The kernel made the root itself and insists on this.
          .generation = node == FUSE_ROOT_ID ? 0 : entry.attributes.generation,
          .entry_valid = validity.names_seconds,
          .attr_valid = validity.attributes_seconds,
          .entry_valid_nsec = 0,
          .attr_valid_nsec = 0,
          .attr = encode_attributes(entry.attributes, block_size)};
}

fuse_entry_out encode_absent(const Validity& validity) {
  fuse_entry_out answer{};
  answer.entry_valid = validity.names_seconds;
  return answer;
}

std::uint32_t encode_device(std::uint32_t major, std::uint32_t minor) {
  return (minor & 0xff) | (major & 0xfff) << 8 | (minor & ~0xffu) << 12;
}

DeviceNumber decode_device(std::uint32_t packed) {
  return {.major = packed >> 8 & 0xfff, .minor = (packed & 0xff) | (packed >> 12 & 0xfff00)};
}

AttributeChange decode_change(const fuse_setattr_in& request, WallTime now) {
  AttributeChange change;
  auto has = [&request](std::uint32_t bits) { return (request.valid & bits) == bits; };
  auto time = [](std::uint64_t seconds, std::uint32_t nanoseconds) {
    return WallTime{static_cast<std::int64_t>(seconds), nanoseconds};
  };
  if (has(FATTR_MODE)) change.mode = request.mode & 07777;
  if (has(FATTR_UID)) change.uid = request.uid;
  if (has(FATTR_GID)) change.gid = request.gid;
  if (has(FATTR_SIZE)) change.size_bytes = request.size;
  if (has(FATTR_ATIME)) change.atime = has(FATTR_ATIME_NOW) ? now : time(request.atime, request.atimensec);
  if (has(FATTR_MTIME)) change.mtime = has(FATTR_MTIME_NOW) ? now : time(request.mtime, request.mtimensec);
  // With its own ctime the kernel writes back times that its page cache has moved.
  const bool chosen_atime = has(FATTR_ATIME) && !has(FATTR_ATIME_NOW);
  const bool chosen_mtime = has(FATTR_MTIME) && !has(FATTR_MTIME_NOW);
  change.chosen_times = (chosen_atime || chosen_mtime) && !has(FATTR_CTIME);
  if (has(FATTR_ATIME_NOW) || has(FATTR_MTIME_NOW)) change.ctime = now;  // one moment for all
  if (has(FATTR_CTIME)) change.ctime = time(request.ctime, request.ctimensec);
  change.kill_set_ids = has(FATTR_KILL_SUIDGID);
  return change;
}

std::uint32_t encode_extended_flags(std::uint32_t flags) {
  std::uint32_t extended = 0;
  for (const FlagPair& pair : kFlagPairs)
    extended |= (flags & pair.flag) != 0 ? pair.extended : 0;
  return extended;
}

Result<std::uint32_t> decode_extended_flags(const fsxattr& wanted, std::uint32_t flags) {
  std::uint32_t unknown = wanted.fsx_xflags;
  for (const FlagPair& pair : kFlagPairs) {
    flags = (wanted.fsx_xflags & pair.extended) != 0 ? flags | pair.flag : flags & ~pair.flag;
    unknown &= ~pair.extended;
  }
  if (unknown != 0 || wanted.fsx_extsize != 0 || wanted.fsx_projid != 0 || wanted.fsx_cowextsize != 0)
    return fail(EOPNOTSUPP);
  return flags;
}

bool DirectoryListing::append(std::span<const std::byte> head, const fuse_dirent& dirent, std::string_view name) {
  std::size_t plain = head.size() + FUSE_NAME_OFFSET + name.size();
  std::size_t padded = FUSE_REC_ALIGN(plain);
  std::size_t begin = bytes_.size();
  if (begin + padded > limit_bytes_) return false;
  bytes_.resize(begin + padded);
  std::byte* out = bytes_.data() + begin;
  if (!head.empty()) std::memcpy(out, head.data(), head.size());
  std::memcpy(out + head.size(), &dirent, FUSE_NAME_OFFSET);
  std::memcpy(out + head.size() + FUSE_NAME_OFFSET, name.data(), name.size());
  return true;
}

namespace {
fuse_dirent make_dirent(std::string_view name, BlockNo inode, std::uint8_t type, DirectoryCookie next) {
  fuse_dirent dirent{};
  dirent.ino = inode.value;
  dirent.off = next;
  dirent.namelen = static_cast<std::uint32_t>(name.size());
  dirent.type = type;
  return dirent;
}
}  // namespace

Result<FileLock> decode_lock(const fuse_lk_in& request) {
  FileLock lock;
  lock.owner = request.owner;
  lock.process = request.lk.pid;
  switch (request.lk.type) {
    case F_UNLCK:
      lock.mode = FileLockMode::unlocked;
      break;
    case F_RDLCK:
      lock.mode = FileLockMode::read;
      break;
    case F_WRLCK:
      lock.mode = FileLockMode::write;
      break;
    default:
      return fail(EINVAL);
  }
  if ((request.lk_flags & FUSE_LK_FLOCK) != 0) {
    lock.kind = FileLockKind::flock;
    return lock;
  }
  lock.first = request.lk.start;
  lock.last = request.lk.end;
  if (lock.first > lock.last || lock.last > kLastByte) return fail(EINVAL);
  return lock;
}

fuse_lk_out encode_lock(const std::optional<FileLockInTheWay>& found) {
  fuse_lk_out out{};
  out.lk.type = F_UNLCK;
  if (!found) return out;
  out.lk.type = found->mode == FileLockMode::write ? F_WRLCK : F_RDLCK;
  out.lk.start = found->first;
  out.lk.end = found->last;
  out.lk.pid = found->here ? found->process : 0;
  return out;
}

bool DirectoryListing::add(std::string_view name, BlockNo inode, std::uint8_t type, DirectoryCookie next) {
  return append({}, make_dirent(name, inode, type, next), name);
}

bool DirectoryListing::add_plus(std::string_view name, BlockNo inode, std::uint8_t type, const fuse_entry_out* entry,
                                DirectoryCookie next) {
  fuse_entry_out head = entry != nullptr ? *entry : fuse_entry_out{};
  return append(std::as_bytes(std::span(&head, 1)), make_dirent(name, inode, type, next), name);
}

}  // namespace corral
