#include "fs/file_data.h"

#include <algorithm>

#include "fs/file_allocate.h"
#include "fs/file_parts.h"
#include "fs/file_size.h"
#include "fs/file_write.h"

namespace corral {

struct FileData::Impl : FileParts {};

FileData::FileData(Volume& volume, Allocator& allocator, MetadataTree& tree, std::uint64_t dirty_limit_bytes)
    : impl_(new Impl{{volume, allocator, tree, WriteOut(volume, dirty_limit_bytes)}}) {}

FileData::~FileData() = default;

Task<Result<std::size_t>> FileData::read(const LockedInode& inode, std::uint64_t offset, std::span<std::byte> out) {
  return read_file(*impl_, inode, offset, out);
}

Task<Result<std::size_t>> FileData::write(const LockedInode& inode, std::uint64_t offset,
                                          std::span<const std::byte> data, WriteOptions options) {
  return write_file(*impl_, inode, offset, data, options);
}

Task<Result<>> FileData::truncate(const LockedInode& inode, std::uint64_t size) {
  return set_file_size(*impl_, inode, size);
}

Task<Result<>> FileData::resume_truncate(const LockedInode& inode) {
  CO_TRY_VOID(impl_->volume.check_writable());
  if ((inode.dinode().flags & ondisk::kDinodeTruncateInProgress) == 0) co_return Result<>{};
  co_return co_await finish_truncate(*impl_, inode);
}

Task<Result<>> FileData::allocate(const LockedInode& inode, int mode, std::uint64_t offset, std::uint64_t length,
                                  bool exempt_from_limits) {
  return allocate_file(*impl_, inode, mode, offset, length, exempt_from_limits);
}

Task<Result<std::uint64_t>> FileData::seek(const LockedInode& inode, std::uint64_t offset, bool want_data) {
  const std::uint64_t size = inode.size_bytes();
  if (offset >= size) co_return fail(ENXIO);
  if (inode.is_stuffed()) co_return want_data ? offset : size;
  const FileBlock first(impl_->block_of(offset));
  const FileBlock end(impl_->volume.geometry.blocks_for(size));
  CO_TRY(std::optional<FileBlock> found, co_await impl_->tree.seek(inode, first, end, want_data));
  if (!found && want_data) co_return fail(ENXIO);
  if (!found) co_return size;
  co_return std::min(size, std::max(offset, impl_->bytes_of(found->value)));
}

Task<Result<>> FileData::write_back(Inode& inode) {
  if (std::shared_ptr<DirtyData> dirty = inode.dirty) co_return co_await dirty->write_back();
  co_return Result<>{};
}

Task<Result<>> FileData::write_back_all() {
  return impl_->write_out.write_back_all();
}

Task<void> FileData::discard(Inode& inode) {
  std::shared_ptr<DirtyData> dirty = inode.dirty;
  if (!dirty) co_return;
  co_await dirty->drop({0, MetadataTree::kToEnd});
  // No commit will ask for it any more.
  if (!impl_->volume.writable()) dirty->abandon();
}

Task<Result<>> FileData::free_contents(const LockedInode& inode) {
  CO_TRY_VOID(impl_->volume.check_writable());
  co_return co_await free_file_blocks(*impl_, inode, {0, MetadataTree::kToEnd});
}

namespace {

/// Blocks of a file that was journaled are known to the block cache, which no other file's are: takes them out.
Task<Result<>> forget_cached(FileParts& parts, const LockedInode& inode) {
  constexpr std::uint64_t kRunBlocks = 1024;
  // fallocate makes blocks behind the end as well.
  const FileRange all{0, parts.volume.geometry.blocks_for(kMaxFileBytes)};
  for (std::uint64_t block = 0; block < all.end;) {
    CO_TRY(MappedRun run, co_await parts.tree.map(inode, FileBlock(block), all.end - block));
    block += run.length;
    for (; !run.is_hole() && run.length > 0;) {
      const std::uint64_t count = std::min(run.length, kRunBlocks);
      TransactionSize size{.blocks = 0, .revokes = static_cast<std::uint32_t>(count)};
      CO_TRY(Transaction transaction, co_await parts.volume.journal->begin(size));
      for (std::uint64_t i = 0; i < count; ++i)
        if (parts.volume.cache.find(inode.owner(), run.start + i)) transaction.free_block(run.start + i);
      run.start += count;
      run.length -= count;
    }
  }
  co_return Result<>{};
}

}  // namespace

Task<Result<>> FileData::set_journaled_data(const LockedInode& inode, bool on) {
  CO_TRY_VOID(impl_->volume.check_writable());
  if (inode.is_journaled_data() == on) co_return Result<>{};
  CO_TRY_VOID(co_await write_back(inode.inode()));
  if (!on && !inode.is_stuffed()) {
    // From now on the blocks are written in place at once: nothing of them may be left in the log, for a replay would
    // bring it back.
    CO_TRY_VOID(co_await impl_->volume.journal->empty_log());
    CO_TRY_VOID(co_await forget_cached(*impl_, inode));
  }
  CO_TRY(Transaction transaction, co_await impl_->volume.journal->begin({.blocks = 1, .revokes = 0}));
  auto& dinode = inode.modify(transaction);
  const std::uint32_t others = dinode.flags & ~ondisk::kDinodeJournaledData;
  dinode.flags = others | (on ? ondisk::kDinodeJournaledData : 0);
  co_return Result<>{};
}

std::uint64_t FileData::dirty_bytes() const {
  return impl_->write_out.dirty_bytes();
}

std::uint64_t FileData::max_file_bytes() const {
  return kMaxFileBytes;
}

}  // namespace corral
