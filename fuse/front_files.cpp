/// Handlers of files' contents: opening, reading, writing, making stable.
#include <algorithm>

#include <fcntl.h>
#include <unistd.h>

#include "fuse/front.h"

namespace corral {

namespace {
/// What one COPY_FILE_RANGE request copies at the most; the caller comes back for the rest.
constexpr std::size_t kMaxCopyBytes = 64 << 20;
/// What is longer may fill a whole page.
constexpr std::uint32_t kPageBytes = 4096;
}  // namespace

bool Front::may_keep_pages(const Operations::OpenedFile& opened, std::uint32_t flags) const {
  const bool reads = (flags & O_ACCMODE) != O_WRONLY && (flags & O_NOATIME) == 0;
  if (!reads || !opened.access_is_due) return true;
  return !settings_.drop_pages_at_open && opened.size_bytes > kMaxTransferBytes;
}

/// FOPEN_*.
std::uint32_t Front::cache_flags(BlockNo inode, const Operations::OpenedFile& opened, std::uint32_t flags) const {
  const std::uint32_t no_flush = locks_.served() ? 0 : FOPEN_NOFLUSH;
  // Where other nodes write, the kernel cannot know where the end is that it appends to: it must not put into pages
  // what the answer has put elsewhere.
  const bool reads_only = (flags & O_ACCMODE) == O_RDONLY;
  if (caches_.shared() && (flags & O_APPEND) != 0 && !reads_only) return no_flush | FOPEN_DIRECT_IO;
  if (reads_only && caches_.contended(inode)) return no_flush | FOPEN_DIRECT_IO | FOPEN_KEEP_CACHE;
  return no_flush | (may_keep_pages(opened, flags) ? FOPEN_KEEP_CACHE : 0);
}

/// open(2) beyond what the kernel has checked: counts the opening; truncates for O_TRUNC, which comes only with a
/// CREATE (of an OPEN the kernel asks that by SETATTR).
Task<Result<fuse_open_out>> Front::open_file(BlockNo inode, std::uint32_t flags, std::uint32_t open_flags,
                                             Caller caller) {
  CO_TRY(Operations::OpenedFile opened, co_await operations().open(inode, static_cast<int>(flags)));
  if ((flags & O_TRUNC) != 0) {
    AttributeChange change;
    change.size_bytes = 0;
    change.kill_set_ids = (open_flags & FUSE_OPEN_KILL_SUIDGID) != 0;
    if (auto truncated = co_await operations().set_attributes(inode, change, caller); !truncated) {
      operations().release(inode, static_cast<int>(flags));
      co_return std::unexpected(std::move(truncated).error());
    }
  }
  fuse_open_out out{};
  out.open_flags = cache_flags(inode, opened, flags);
  out.fh = make_handle((out.open_flags & FOPEN_DIRECT_IO) != 0);
  co_return out;
}

Task<void> Front::open(Request request) {
  auto in = request.fixed<fuse_open_in>();
  Result<fuse_open_out> opened = co_await open_file(inode_of(request), in.flags, in.open_flags, caller_of(request, 0));
  if (!opened) co_return refuse(request, opened.error());
  request.succeed_with(*opened);
}

Task<void> Front::release(Request request) {
  const BlockNo inode = inode_of(request);
  const auto in = request.fixed<fuse_release_in>();
  if (locks_.served()) co_await locks_.released(inode, in);
  operations().release(inode, static_cast<int>(in.flags));
  request.succeed();
  if (!caches_.shared()) co_return;
  InodeRef known = filesystem_->inodes().find(inode);
  if (known != nullptr && known->free_wanted) caches_.prune(inode);
}

/// Where nobody else changes directories, opening one is not asked a second time, and listings are cached.
Task<void> Front::open_directory(Request request) {
  if (caches_.shared())
    request.succeed_with(fuse_open_out{.fh = make_handle(false), .open_flags = 0, .padding = 0});
  else
    request.fail(ENOSYS);
  co_return;
}

Task<void> Front::release_directory(Request request) {
  request.succeed();
  co_return;
}

Task<void> Front::read(Request request) {
  auto in = request.fixed<fuse_read_in>();
  std::size_t size = std::min(in.size, kMaxTransferBytes);
  LargeBuffers::Buffer buffer = channel_.buffers().take(size);
  // What a process reads past its pages comes with its lock owner; pages, also those of a mapping of a file that is
  // read so otherwise, come without.
  const bool fills_pages = (in.read_flags & FUSE_READ_LOCKOWNER) == 0;
  std::optional<KernelCaches::Reading> reading;
  if (caches_.shared() && fills_pages) reading.emplace(caches_, inode_of(request), in.offset, in.size);
  Result<std::size_t> length = co_await operations().read(inode_of(request), in.offset, {buffer.get(), size});
  if (!length) co_return refuse(request, length.error());
  counters_.bytes_read += *length;
  BlockNo inode = inode_of(request);
  if (fills_pages) caches_.told_data(inode);
  request.succeed_with_bytes(std::span<const std::byte>(buffer.get(), *length));
  reading.reset();
  buffer.reset();
  if ((in.flags & O_NOATIME) == 0) co_await operations().accessed(inode);
}

/// On a cluster mount, before a WRITE is answered that was carried out: what the kernel has in pages must be what the
/// file has there.
Task<void> Front::settle_pages(const Request& request, const fuse_write_in& in) {
  const BlockNo inode = inode_of(request);
  if (is_direct(in.fh)) {
    if (caches_.may_know_data(inode)) co_await caches_.drop_data(inode);
  } else if (in.size >= kPageBytes) {
    caches_.told_data(inode);
  }
}

Task<void> Front::write(Request request) {
  auto in = request.fixed<fuse_write_in>();
  std::span<const std::byte> data = request.rest(sizeof(in));
  if (data.size() != in.size) co_return refuse(request, Error(EIO));
  Operations::WriteHow how;
  how.flags = static_cast<int>(in.flags);
  // After a buffered write to an O_SYNC file the kernel sends an FSYNC of its own, but none after asynchronous
  // O_DIRECT.
  if ((how.flags & O_DIRECT) == 0) how.flags &= ~O_SYNC;
  how.write_back = settings_.writeback_cache && (in.write_flags & FUSE_WRITE_CACHE) != 0;
  how.kill_set_ids = (in.write_flags & FUSE_WRITE_KILL_SUIDGID) != 0;
  how.caller = caller_of(request, 0);
  std::optional<KernelCaches::Writing> writing;
  if (caches_.shared() && (in.write_flags & FUSE_WRITE_CACHE) == 0 && !is_direct(in.fh))
    writing.emplace(caches_, inode_of(request));
  Result<std::size_t> written = co_await operations().write(inode_of(request), in.offset, data, how);
  if (!written) co_return refuse(request, written.error());
  counters_.bytes_written += *written;
  if (caches_.shared()) co_await settle_pages(request, in);
  // Appending with fcntl(F_SETFL) was not foreseen at the opening; its pages may be locked until the answer.
  const bool misplaced = caches_.shared() && (in.flags & O_APPEND) != 0 && !is_direct(in.fh);
  const BlockNo inode = inode_of(request);
  request.succeed_with(fuse_write_out{.size = static_cast<std::uint32_t>(*written), .padding = 0});
  if (misplaced) co_await caches_.drop_data(inode);
}

Task<void> Front::fsync(Request request) {
  bool data_only = (request.fixed<fuse_fsync_in>().fsync_flags & FUSE_FSYNC_FDATASYNC) != 0;
  Result<> done = co_await operations().fsync(inode_of(request), data_only);
  if (!done) co_return refuse(request, done.error());
  request.succeed();
}

Task<void> Front::sync_all(Request request) {
  Result<> done = co_await operations().sync();
  if (!done) co_return refuse(request, done.error());
  request.succeed();
}

Task<void> Front::allocate(Request request) {
  auto in = request.fixed<fuse_fallocate_in>();
  Result<> done = co_await operations().fallocate(inode_of(request), static_cast<int>(in.mode), in.offset, in.length);
  if (!done) co_return refuse(request, done.error());
  request.succeed();
}

Task<void> Front::seek(Request request) {
  auto in = request.fixed<fuse_lseek_in>();
  if (in.whence != SEEK_DATA && in.whence != SEEK_HOLE) co_return refuse(request, Error(EINVAL));
  Result<std::uint64_t> found = co_await operations().seek(inode_of(request), in.offset, static_cast<int>(in.whence));
  if (!found) co_return refuse(request, found.error());
  request.succeed_with(fuse_lseek_out{.offset = *found});
}

Task<void> Front::set_lock(Request request) {
  const BlockNo inode = inode_of(request);
  return locks_.set(std::move(request), inode, false);
}

Task<void> Front::wait_for_lock(Request request) {
  const BlockNo inode = inode_of(request);
  return locks_.set(std::move(request), inode, true);
}

Task<void> Front::test_lock(Request request) {
  const BlockNo inode = inode_of(request);
  return locks_.test(std::move(request), inode);
}

/// Comes at every close(2), where locks are served.
Task<void> Front::flush(Request request) {
  if (!locks_.served()) co_return request.fail(ENOSYS);
  co_await locks_.closed(inode_of(request), request.fixed<fuse_flush_in>().lock_owner);
  request.succeed();
}

Task<void> Front::copy_range(Request request) {
  auto in = request.fixed<fuse_copy_file_range_in>();
  if (in.flags != 0) co_return refuse(request, Error(EINVAL));
  if (!is_of_this_life(in.fh_out)) co_return refuse(request, Error(EIO));
  std::size_t length = std::min<std::uint64_t>(in.len, kMaxCopyBytes);
  Result<std::size_t> copied = co_await operations().copy_range(inode_of(request), in.off_in,
                                                                numbers_.to_inode(in.nodeid_out), in.off_out, length);
  if (!copied) co_return refuse(request, copied.error());
  request.succeed_with(fuse_write_out{.size = static_cast<std::uint32_t>(*copied), .padding = 0});
}

}  // namespace corral
