#include "disk/file_life_locks.h"

#include <algorithm>
#include <array>
#include <cstring>

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>

namespace corral {

namespace {
constexpr std::uint32_t kZfsMagic = 0x2FC12FC1;
/// Filesystems of one host.
constexpr std::array<std::uint32_t, 8> kLocal{EXT4_SUPER_MAGIC, XFS_SUPER_MAGIC, BTRFS_SUPER_MAGIC,
                                              F2FS_SUPER_MAGIC, TMPFS_MAGIC,     OVERLAYFS_SUPER_MAGIC,
                                              RAMFS_MAGIC,      kZfsMagic};

/// One byte for each number. Locks reach beyond the file's end, and lock nothing for reads and writes.
struct flock byte_for(std::uint64_t number, short type) {
  struct flock lock{};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = static_cast<off_t>(number & 0x3FFFFFFFFFFFFFFF);
  lock.l_len = 1;
  return lock;
}
}  // namespace

std::optional<FileLifeLocks> FileLifeLocks::of(int descriptor, std::string name) {
  struct stat status{};
  struct statfs filesystem{};
  if (fstat(descriptor, &status) != 0 || !S_ISREG(status.st_mode)) return std::nullopt;
  if (fstatfs(descriptor, &filesystem) != 0) return std::nullopt;
  if (std::ranges::find(kLocal, static_cast<std::uint32_t>(filesystem.f_type)) == kLocal.end()) return std::nullopt;
  return FileLifeLocks(descriptor, std::move(name));
}

Result<> FileLifeLocks::take(std::uint64_t number) {
  struct flock lock = byte_for(number, F_WRLCK);
  if (fcntl(descriptor_, F_OFD_SETLK, &lock) == 0) return {};
  const int code = errno == EAGAIN || errno == EACCES ? EBUSY : errno;
  return fail_device(code, "{}: cannot lock: {}", name_, std::strerror(code));
}

Result<> FileLifeLocks::give_up(std::uint64_t number) {
  struct flock lock = byte_for(number, F_UNLCK);
  if (fcntl(descriptor_, F_OFD_SETLK, &lock) == 0) return {};
  return fail_device(errno, "{}: cannot unlock: {}", name_, std::strerror(errno));
}

Result<bool> FileLifeLocks::taken_by_another(std::uint64_t number) const {
  struct flock lock = byte_for(number, F_WRLCK);
  if (fcntl(descriptor_, F_OFD_GETLK, &lock) != 0)
    return fail_device(errno, "{}: cannot ask for locks: {}", name_, std::strerror(errno));
  return lock.l_type != F_UNLCK;
}

}  // namespace corral
