#include "fs/system_inode.h"

#include <algorithm>

#include "base/aligned_buffer.h"
#include "ondisk/validate.h"

namespace corral {

namespace {
constexpr std::uint64_t kPieceBytes = 1u << 20;
}

Task<Result<LockedInode>> lock_system_inode(Volume& volume, InodeRef inode, GlockMode mode) {
  CO_TRY(GlockHolder holder, co_await inode->glock().acquire(mode));
  CO_TRY(BlockRef block, co_await volume.cache.read(inode->glock().blocks(), inode->address(), ondisk::check_dinode));
  const std::uint64_t formal_number = block->as<ondisk::Dinode>().num.formal_ino;
  if (formal_number != inode->formal_number())
    co_return fail_corrupt("system inode {}: formal number {}, expected {}", inode->address().value, formal_number,
                           inode->formal_number());
  co_return LockedInode(std::move(inode), std::move(holder), std::move(block));
}

Task<Result<>> read_system_file(Volume& volume, MetadataTree& tree, const LockedInode& inode,
                                const SystemFileSink& sink) {
  const std::uint64_t size = inode.size_bytes();
  if (inode.is_stuffed()) co_return sink(inode.bytes().subspan(sizeof(ondisk::Dinode), size));
  const ondisk::Geometry& geometry = volume.geometry;
  AlignedBuffer buffer(kPieceBytes, false);
  for (FileBlock at; at.value < geometry.blocks_for(size);) {
    const std::uint64_t wanted = std::min(geometry.blocks_for(size) - at.value, kPieceBytes >> geometry.block_shift());
    CO_TRY(MappedRun run, co_await tree.map(inode, at, wanted));
    if (run.is_hole())
      co_return fail_corrupt("system inode {}: hole at block {} of the file", inode.address().value, at.value);
    const std::uint64_t blocks = std::min(run.length, wanted);
    const auto piece = buffer.span().first(blocks << geometry.block_shift());
    CO_TRY_VOID(co_await volume.device.read(geometry.offset_bytes(run.start), piece));
    const std::uint64_t left = size - (at.value << geometry.block_shift());
    CO_TRY_VOID(sink(piece.first(std::min<std::uint64_t>(left, piece.size()))));
    at += blocks;
  }
  co_return Result<>{};
}

}  // namespace corral
