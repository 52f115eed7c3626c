// Open files and their contents.
#include <algorithm>

#include <fcntl.h>
#include <linux/falloc.h>
#include <unistd.h>

#include "base/planted_bug.h"
#include "fs/filesystem.h"
#include "fs/operations.h"

namespace corral {

using namespace ondisk;

namespace {
/// Most that one copy_range() call moves; the caller asks again.
constexpr std::size_t kCopyLimitBytes = 16u << 20;
constexpr std::size_t kCopyStepBytes = 1u << 20;

bool wants_to_write(int flags) {
  return (flags & O_ACCMODE) != O_RDONLY;
}
}  // namespace

Task<Result<Operations::OpenedFile>> Operations::open(BlockNo inode, int flags) {
  const bool writes = wants_to_write(flags);
  const bool exclusive = writes && fs_.glocks().clustered() && fs_.volume().writable();
  CO_TRY(LockedInode locked, co_await lock(inode, exclusive ? GlockMode::exclusive : GlockMode::shared));
  if (writes || (flags & O_TRUNC) != 0) {
    CO_TRY_VOID(fs_.volume().check_writable());
    const std::uint32_t bits = locked.dinode().flags;
    if ((bits & kDinodeImmutable) != 0) co_return fail(EPERM);
    if ((bits & kDinodeAppendOnly) != 0 && ((flags & O_APPEND) == 0 || (flags & O_TRUNC) != 0)) co_return fail(EPERM);
  }
  ++locked.inode().opens;
  if (writes) ++locked.inode().writers;
  co_return OpenedFile{.access_is_due = access_is_due(locked), .size_bytes = locked.size_bytes()};
}

void Operations::release(BlockNo inode, int flags) {
  InodeRef known = fs_.inodes().find(inode);
  if (known == nullptr || known->opens == 0) return;
  if (wants_to_write(flags) && known->writers != 0) --known->writers;
  // What was set aside for the file to grow is of use to others now.
  if (--known->opens == 0) known->window.reset();
  fs_.reclaim_if_unused(known);
}

Task<Result<LockedInode>> Operations::lock_to_read_data(BlockNo inode) {
  CO_TRY(InodeRef known, co_await find(inode));
  auto shared_is_enough = [this, &known] {
    return known->writers == 0 || known->glock().node_mode() == GlockMode::exclusive || !fs_.glocks().clustered() ||
           !fs_.volume().writable();
  };
  if (shared_is_enough()) {
    CO_TRY(LockedInode locked, co_await lock(known, GlockMode::shared));
    if (shared_is_enough()) co_return locked;
  }
  co_return co_await lock(known, GlockMode::exclusive);
}

Task<Result<std::size_t>> Operations::read(BlockNo inode, std::uint64_t offset, std::span<std::byte> out) {
  CO_TRY(LockedInode locked, co_await lock_to_read_data(inode));
  if (locked.is_directory()) co_return fail(EISDIR);
  if (!locked.is_regular()) co_return fail(EINVAL);
  co_return co_await fs_.data().read(locked, offset, out);
}

Task<Result<std::size_t>> Operations::write(BlockNo inode, std::uint64_t offset, std::span<const std::byte> data,
                                            WriteHow how) {
  std::size_t written = 0;
  std::uint64_t size_before = 0;
  if (planted(PlantedBug::stale_append_size)) {
    CO_TRY(const Attributes attributes, co_await get_attributes(inode));
    size_before = attributes.size_bytes;
  }
  {
    CO_TRY(const GlockHolder changing, co_await fs_.volume().change());
    CO_TRY(LockedInode locked, co_await lock_to_change(inode));
    if (!locked.is_regular()) co_return fail(EINVAL);
    if (!how.write_back) {
      CO_TRY_VOID(co_await drop_privileges(locked, how.kill_set_ids, how.caller));
    }
    if ((how.flags & O_APPEND) != 0 && !how.write_back) offset = locked.size_bytes();
    if ((how.flags & O_APPEND) != 0 && planted(PlantedBug::stale_append_size)) offset = size_before;
    const FileData::WriteOptions options{.direct = (how.flags & O_DIRECT) != 0 && !how.write_back,
                                         .keep_times = how.write_back};
    CO_TRY(written, co_await fs_.data().write(locked, offset, data, options));
  }
  if ((how.flags & (O_SYNC | O_DSYNC)) != 0 && !how.write_back) {
    CO_TRY_VOID(co_await fsync(inode, true));
  }
  co_return written;
}

Task<Result<>> Operations::fsync(BlockNo inode, bool) {
  InodeRef known = fs_.inodes().find(inode);
  if (known == nullptr) co_return fail(ESTALE);
  if (fs_.volume().withdrawn) co_return fail(EIO);
  if (fs_.volume().journal == nullptr) co_return Result<>{};
  if (!planted(PlantedBug::fsync_without_data)) CO_TRY_VOID(co_await fs_.data().write_back(*known));
  if (planted(PlantedBug::fsync_without_log)) co_return Result<>{};
  co_return co_await fs_.volume().journal->flush_with_device();
}

Task<Result<>> Operations::fallocate(BlockNo inode, int mode, std::uint64_t offset, std::uint64_t length) {
  CO_TRY(const GlockHolder changing, co_await fs_.volume().change());
  CO_TRY(LockedInode locked, co_await lock_to_change(inode));
  if (!locked.is_regular()) co_return fail(locked.is_directory() ? EISDIR : ENODEV);
  const std::uint32_t bits = locked.dinode().flags;
  if ((bits & kDinodeImmutable) != 0) co_return fail(EPERM);
  if ((bits & kDinodeAppendOnly) != 0 && (mode & ~FALLOC_FL_KEEP_SIZE) != 0) co_return fail(EPERM);
  CO_TRY_VOID(co_await drop_privileges(locked, false, {}));
  co_return co_await fs_.data().allocate(locked, mode, offset, length);
}

Task<Result<std::uint64_t>> Operations::seek(BlockNo inode, std::uint64_t offset, int whence) {
  if (whence != SEEK_DATA && whence != SEEK_HOLE) co_return fail(EINVAL);
  CO_TRY(LockedInode locked, co_await lock(inode, GlockMode::shared));
  if (!locked.is_regular()) co_return fail(EINVAL);
  co_return co_await fs_.data().seek(locked, offset, whence == SEEK_DATA);
}

Task<Result<std::size_t>> Operations::copy_range(BlockNo from, std::uint64_t from_offset, BlockNo to,
                                                 std::uint64_t to_offset, std::size_t length) {
  length = std::min(length, kCopyLimitBytes);
  AlignedBuffer buffer(std::min(length, kCopyStepBytes), false);
  std::size_t copied = 0;
  while (copied < length) {
    const std::size_t step = std::min(buffer.size(), length - copied);
    auto got = co_await read(from, from_offset + copied, buffer.span().first(step));
    if (!got) {
      if (copied != 0) break;
      co_return std::unexpected(got.error());
    }
    if (*got == 0) break;
    auto put = co_await write(to, to_offset + copied, buffer.span().first(*got), {});
    if (!put) {
      if (copied != 0) break;
      co_return std::unexpected(put.error());
    }
    copied += *put;
    if (*put < *got) break;
  }
  co_return copied;
}

}  // namespace corral
