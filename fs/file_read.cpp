/// FileData: reading.
#include <algorithm>
#include <cstring>
#include <vector>

#include "base/sync.h"
#include "fs/file_parts.h"

namespace corral {

namespace {

/// Reads of one request that run at the same time.
class ParallelReads {
 public:
  explicit ParallelReads(Volume& volume) : volume_(volume) {}

  void add(BlockNo start, std::span<std::byte> into) {
    std::uint64_t offset = volume_.geometry.offset_bytes(start);
    if (!reads_.empty() && reads_.back().offset + reads_.back().into.size() == offset &&
        reads_.back().into.data() + reads_.back().into.size() == into.data()) {
      auto& last = reads_.back().into;
      last = {last.data(), last.size() + into.size()};
    } else {
      reads_.push_back({offset, into});
    }
  }

  Task<Result<>> run() {
    if (reads_.empty()) co_return Result<>{};
    if (reads_.size() == 1) co_return co_await volume_.device.read(reads_[0].offset, reads_[0].into);
    Scope scope(volume_.executor);
    for (const Read& read : reads_)
      scope.spawn(run_one(read));
    co_await scope.join();
    co_return result_;
  }

 private:
  struct Read {
    std::uint64_t offset;
    std::span<std::byte> into;
  };
  Task<void> run_one(Read read) {
    auto done = co_await volume_.device.read(read.offset, read.into);
    if (!done && result_) result_ = done;
  }

  Volume& volume_;
  std::vector<Read> reads_;
  Result<> result_;
};

Task<Result<>> read_journaled(FileParts& parts, const LockedInode& inode, MappedRun run, std::span<std::byte> out) {
  std::vector<BlockNo> blocks;
  for (std::uint64_t i = 0; i < run.length; ++i)
    blocks.push_back(run.start + i);
  if (blocks.size() > 1) parts.volume.cache.read_ahead(inode.owner(), blocks, accept_data);
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    CO_TRY(BlockRef block, co_await parts.volume.cache.read(inode.owner(), blocks[i], accept_data));
    std::ranges::copy(block->bytes(), out.begin() + i * parts.block_size());
  }
  co_return Result<>{};
}

/// A run of data blocks: what is in memory is copied at once, the rest is left to the parallel reads.
void read_run(FileParts& parts, const LockedInode& inode, MappedRun run, std::span<std::byte> out,
              ParallelReads& reads) {
  const DirtyData* dirty = inode.inode().dirty.get();
  for (std::uint64_t done = 0; done < run.length;) {
    DirtyData::Piece piece{nullptr, run.length - done};
    if (dirty != nullptr) piece = dirty->piece(run.first + done, run.length - done);
    auto part = out.subspan(parts.bytes_of(done), parts.bytes_of(piece.blocks));
    if (piece.bytes != nullptr)
      std::memcpy(part.data(), piece.bytes, part.size());
    else
      reads.add(run.start + done, part);
    done += piece.blocks;
  }
}

}  // namespace

Task<Result<>> read_blocks(FileParts& parts, const LockedInode& inode, FileBlock first, std::span<std::byte> out) {
  CHECK_INVARIANT(parts.offset_in_block(out.size()) == 0);
  ParallelReads reads(parts.volume);
  while (!out.empty()) {
    CO_TRY(MappedRun run, co_await parts.tree.map(inode, first, parts.block_of(out.size())));
    auto part = out.first(parts.bytes_of(run.length));
    if (run.is_hole()) {
      std::memset(part.data(), 0, part.size());
    } else if (inode.is_journaled_data()) {
      CO_TRY_VOID(co_await read_journaled(parts, inode, run, part));
    } else {
      read_run(parts, inode, run, part, reads);
    }
    first += run.length;
    out = out.subspan(part.size());
  }
  co_return co_await reads.run();
}

namespace {

/// Bytes of one block, or of several through memory of our own where the caller's is not aligned.
Task<Result<>> read_through_buffer(FileParts& parts, const LockedInode& inode, std::uint64_t offset,
                                   std::span<std::byte> out) {
  constexpr std::size_t kBufferBytes = 1u << 20;
  while (!out.empty()) {
    const std::uint64_t skip = parts.offset_in_block(offset);
    const std::size_t part = std::min<std::size_t>(out.size(), kBufferBytes - skip);
    FileRange blocks = parts.blocks_of(offset, part);
    AlignedBuffer buffer(parts.bytes_of(blocks.end - blocks.first), false);
    CO_TRY_VOID(co_await read_blocks(parts, inode, FileBlock(blocks.first), buffer.span()));
    std::memcpy(out.data(), buffer.data() + skip, part);
    offset += part;
    out = out.subspan(part);
  }
  co_return Result<>{};
}

bool is_aligned(const std::byte* memory, std::size_t bytes) {
  return reinterpret_cast<std::uintptr_t>(memory) % bytes == 0;
}

}  // namespace

Task<Result<std::size_t>> read_file(FileParts& parts, const LockedInode& inode, std::uint64_t offset,
                                    std::span<std::byte> out) {
  const std::uint64_t size = inode.size_bytes();
  if (offset >= size || out.empty()) co_return std::size_t{0};
  const std::size_t bytes = std::min<std::uint64_t>(out.size(), size - offset);
  if (inode.is_stuffed()) {
    auto contents = inode.bytes().subspan(sizeof(ondisk::Dinode));
    if (size > contents.size())
      co_return fail_corrupt("inode {}: size {} bytes with height 0, expected at most {}", inode.address().value, size,
                             contents.size());
    std::memcpy(out.data(), contents.data() + offset, bytes);
    co_return bytes;
  }
  // The unaligned ends go through memory of our own, the blocks between them straight into the caller's. The last
  // block counts among these where the caller has room for what lies behind the end of the file.
  const std::uint64_t into_block = parts.offset_in_block(offset);
  const std::size_t head = into_block == 0 ? 0 : std::min<std::size_t>(bytes, parts.block_size() - into_block);
  const std::size_t whole = parts.bytes_of(parts.volume.geometry.blocks_for(bytes - head));
  const std::size_t middle = std::min<std::size_t>(whole, parts.bytes_of(parts.block_of(out.size() - head)));
  if (!is_aligned(out.data() + head, parts.volume.device.geometry().sector_bytes)) {
    CO_TRY_VOID(co_await read_through_buffer(parts, inode, offset, out.first(bytes)));
    co_return bytes;
  }
  if (head > 0) CO_TRY_VOID(co_await read_through_buffer(parts, inode, offset, out.first(head)));
  if (middle > 0) {
    FileBlock first(parts.block_of(offset + head));
    CO_TRY_VOID(co_await read_blocks(parts, inode, first, out.subspan(head, middle)));
  }
  if (std::size_t done = head + middle; done < bytes)
    CO_TRY_VOID(co_await read_through_buffer(parts, inode, offset + done, out.subspan(done, bytes - done)));
  co_return bytes;
}

}  // namespace corral
