/// The filesystem's values in the kernel's terms, and back.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include <linux/fs.h>

#include "base/result.h"
#include "fs/directory.h"
#include "fs/file_locks.h"
#include "fs/operations.h"
#include "fuse/protocol.h"

namespace corral {

/// The kernel calls the root 1; every other inode by its block address.
class NodeNumbers {
 public:
  explicit NodeNumbers(BlockNo root) : root_(root) {}
  BlockNo to_inode(std::uint64_t node) const { return node == FUSE_ROOT_ID ? root_ : BlockNo(node); }
  std::uint64_t to_node(BlockNo inode) const { return inode == root_ ? FUSE_ROOT_ID : inode.value; }

 private:
  BlockNo root_;
};

/// For how long the kernel may answer by itself.
struct Validity {
  std::uint64_t names_seconds = 0;
  std::uint64_t attributes_seconds = 0;
};

fuse_attr encode_attributes(const Attributes& attributes, std::uint32_t block_size);
fuse_attr_out encode_attribute_answer(const Attributes& attributes, std::uint32_t block_size, const Validity& validity);
fuse_entry_out encode_entry(const Entry& entry, const NodeNumbers& numbers, std::uint32_t block_size,
                            const Validity& validity);
/// "There is no such name", to be remembered.
fuse_entry_out encode_absent(const Validity& validity);

/// The code by which the kernel, and through it an application, is told of an error. How the disk failed, or that this
/// node was fenced, is for the log: programs expect EIO of a disk, and know what to do about it.
int encode_error(const Error& error);

/// Device numbers as the kernel's new_encode_dev() packs them into 32 bits.
std::uint32_t encode_device(std::uint32_t major, std::uint32_t minor);
struct DeviceNumber {
  std::uint32_t major;
  std::uint32_t minor;
};
DeviceNumber decode_device(std::uint32_t packed);

/// What a SETATTR asks for; `now` stands for the times that the kernel wants set to the present.
AttributeChange decode_change(const fuse_setattr_in& request, WallTime now);

/// FS_XFLAG_* of struct fsxattr (linux/fs.h) for the FS_*_FL of GETFLAGS, as far as there are any.
std::uint32_t encode_extended_flags(std::uint32_t flags);
/// FS_*_FL after FS_IOC_FSSETXATTR: those without an FS_XFLAG stay as they are in `flags`. EOPNOTSUPP if it asks for
/// what GFS2 does not have (projects, extent sizes).
Result<std::uint32_t> decode_extended_flags(const fsxattr& wanted, std::uint32_t flags);

/// What a SETLK, SETLKW or GETLK asks for. EINVAL if its type or range is none.
Result<FileLock> decode_lock(const fuse_lk_in& request);
/// GETLK's answer: F_UNLCK if nothing is in the way; process 0 for a lock of another node.
fuse_lk_out encode_lock(const std::optional<FileLockInTheWay>& found);

/// A READDIR or READDIRPLUS answer of limited size.
class DirectoryListing {
 public:
  explicit DirectoryListing(std::size_t limit_bytes) : limit_bytes_(limit_bytes) {}
  /// False when it does not fit any more: the entry comes first in the next answer.
  bool add(std::string_view name, BlockNo inode, std::uint8_t type, DirectoryCookie next);
  /// With attributes; `entry` null for "." and "..", of which the kernel wants the name alone.
  bool add_plus(std::string_view name, BlockNo inode, std::uint8_t type, const fuse_entry_out* entry,
                DirectoryCookie next);
  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  bool append(std::span<const std::byte> head, const fuse_dirent& dirent, std::string_view name);
  std::size_t limit_bytes_;
  std::vector<std::byte> bytes_;
};

}  // namespace corral
