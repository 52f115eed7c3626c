#include "fs/file_patch.h"

#include <algorithm>
#include <cstring>

namespace corral {

FilePatch::FilePatch(FileParts& parts, const LockedInode& inode, std::uint64_t offset, const std::byte* data,
                     std::uint64_t length)
    : parts_(parts), inode_(inode), offset_(offset), data_(data), length_(length) {
  CHECK_INVARIANT(length > 0);
}

bool FilePatch::covers(std::uint64_t block) const {
  return offset_ <= parts_.bytes_of(block) && parts_.bytes_of(block + 1) <= offset_ + length_;
}

Task<Result<AlignedBuffer>> FilePatch::read_base(std::uint64_t block) {
  CO_TRY(MappedRun run, co_await parts_.tree.map(inode_, FileBlock(block), 1));
  if (run.is_hole()) co_return AlignedBuffer();
  if (inode_.is_journaled_data()) {
    CO_TRY(BlockRef held, co_await parts_.volume.cache.read(inode_.owner(), run.start, accept_data));
    held_.push_back(std::move(held));
    co_return AlignedBuffer();
  }
  AlignedBuffer base(parts_.block_size(), false);
  CO_TRY_VOID(co_await read_blocks(parts_, inode_, FileBlock(block), base.span()));
  // Whatever lies behind the end of the file must not come to light when that moves.
  const std::uint64_t begin = parts_.bytes_of(block);
  const std::uint64_t size = inode_.size_bytes();
  if (size < begin + base.size()) {
    std::size_t kept = size > begin ? size - begin : 0;
    std::memset(base.data() + kept, 0, base.size() - kept);
  }
  co_return base;
}

Task<Result<>> FilePatch::prepare() {
  // Stuffed contents come into memory with the unstuffing.
  if (inode_.is_stuffed()) co_return Result<>{};
  const FileRange range = blocks();
  if (!covers(range.first)) {
    CO_TRY(head_, co_await read_base(range.first));
  }
  if (range.end - range.first > 1 && !covers(range.end - 1)) {
    CO_TRY(tail_, co_await read_base(range.end - 1));
  }
  co_return Result<>{};
}

void FilePatch::shorten(std::uint64_t length) {
  CHECK_INVARIANT(length > 0 && length <= length_);
  CHECK_INVARIANT(length == length_ || parts_.offset_in_block(offset_ + length) == 0);
  length_ = length;
}

std::uint32_t FilePatch::log_blocks() const {
  if (!inode_.is_journaled_data()) return 0;
  FileRange range = blocks();
  return static_cast<std::uint32_t>(range.end - range.first);
}

void FilePatch::allocated(Extent extent) {
  ordered_ = true;
  if (!inode_.is_journaled_data()) return;
  for (std::uint32_t i = 0; i < extent.length; ++i)
    held_.push_back(parts_.volume.cache.create(inode_.owner(), extent.start + i));
}

void FilePatch::fill(std::uint64_t block, std::span<std::byte> bytes, bool fresh) const {
  const std::uint64_t begin = parts_.bytes_of(block);
  const std::uint64_t end = begin + bytes.size();
  const std::uint64_t data_begin = std::max(begin, offset_);
  const std::uint64_t data_end = std::min(end, offset_ + length_);
  auto copy_base = [&](const AlignedBuffer& base, std::uint64_t from, std::uint64_t to) {
    if (base.size() == 0)
      std::memset(bytes.data() + (from - begin), 0, to - from);
    else
      std::memcpy(bytes.data() + (from - begin), base.data() + parts_.offset_in_block(from), to - from);
  };
  const FileRange range = blocks();
  if (fresh && begin < data_begin) copy_base(head_, begin, data_begin);
  if (fresh && data_end < end) copy_base(range.end - range.first > 1 ? tail_ : head_, data_end, end);
  if (data_ == nullptr)
    std::memset(bytes.data() + (data_begin - begin), 0, data_end - data_begin);
  else
    std::memcpy(bytes.data() + (data_begin - begin), data_ + (data_begin - offset_), data_end - data_begin);
}

void FilePatch::store_ordered(MappedRun run, std::uint64_t allocated_in) {
  DirtyData& dirty = parts_.write_out.of(inode_.inode());
  for (std::uint64_t done = 0; done < run.length;) {
    DirtyData::Slot slot = dirty.slot(run.first + done, run.start + done, run.length - done, allocated_in);
    fill(run.first.value + done, slot.bytes, slot.fresh);
    done += slot.blocks;
  }
}

void FilePatch::store_journaled(MappedRun run, Transaction& transaction) {
  for (std::uint64_t i = 0; i < run.length; ++i) {
    BlockRef block = parts_.volume.cache.find(inode_.owner(), run.start + i);
    const bool fresh = block == nullptr;
    CHECK_INVARIANT(!fresh || covers(run.first.value + i));
    if (fresh) block = parts_.volume.cache.create(inode_.owner(), run.start + i);
    fill(run.first.value + i, transaction.modify_data(*block), fresh);
  }
}

Task<Result<>> FilePatch::store(Transaction* transaction) {
  const bool journaled = inode_.is_journaled_data();
  const bool orders = ordered_ && !journaled && parts_.volume.options.data == DataMode::ordered;
  const std::uint64_t allocated_in = orders ? parts_.volume.journal->running_set() : 0;
  const FileRange range = blocks();
  for (std::uint64_t block = range.first; block < range.end;) {
    CO_TRY(MappedRun run, co_await parts_.tree.map(inode_, FileBlock(block), range.end - block));
    CHECK_INVARIANT(!run.is_hole());
    if (journaled)
      store_journaled(run, *transaction);
    else
      store_ordered(run, allocated_in);
    block += run.length;
  }
  if (orders) parts_.write_out.of(inode_.inode()).order(*transaction);
  co_return Result<>{};
}

}  // namespace corral
