#include "fsck/system_file.h"

#include <algorithm>
#include <cstring>

#include "fsck/new_blocks.h"
#include "fsck/walk_policies.h"

namespace corral::fsck {

using namespace ondisk;

namespace {

/// Gives up the tree of a file. Attributes, which system files do not have, go with it.
Task<Result<>> release_tree(Volume& volume, BlockNo inode, BlockBytes& block) {
  ReleaseBlocks release(volume);
  InodeWalk walk(volume, inode, block, release);
  CO_TRY_VOID(co_await walk.run());
  auto& dinode = view<Dinode>(block);
  dinode.eattr = 0;
  dinode.height = 0;
  dinode.blocks = 1;
  std::fill(block.begin() + sizeof(Dinode), block.end(), std::byte{0});
  co_return Result<>{};
}

}  // namespace

Task<Result<>> write_contents(Volume& volume, BlockNo inode, std::uint64_t size, FillBlock fill) {
  const std::uint64_t count = volume.geometry.blocks_for(size);
  const std::uint64_t indirects = indirect_blocks(volume.geometry, count);
  auto above = take_blocks(volume, indirects, Use::metadata);
  auto data = take_blocks(volume, count, Use::data);
  if (!above || !data) {
    for (const auto& taken : {above, data})
      for (BlockNo one : taken.value_or(std::vector<BlockNo>()))
        volume.map.set_use(one, Use::none);
    co_return fail(ENOSPC, "inode {}: no {} free blocks for its contents", inode.value, count + indirects);
  }
  CO_TRY(BlockBytes block, co_await volume.read(inode));
  CO_TRY_VOID(co_await release_tree(volume, inode, block));
  write_tree(volume, *data, *above, block);
  auto& dinode = view<Dinode>(block);
  dinode.size = size;
  dinode.blocks = 1 + count + indirects;
  for (std::uint64_t i = 0; i < count; ++i) {
    BlockBytes bytes(volume.geometry.block_size());
    fill(i, bytes);
    volume.write((*data)[i], bytes);
  }
  volume.write(inode, block);
  co_return Result<>{};
}

Task<Result<>> write_stuffed(Volume& volume, BlockNo inode, std::span<const std::byte> contents) {
  CO_TRY(BlockBytes block, co_await volume.read(inode));
  CO_TRY_VOID(co_await release_tree(volume, inode, block));
  view<Dinode>(block).size = contents.size();
  std::memcpy(block.data() + sizeof(Dinode), contents.data(), contents.size());
  volume.write(inode, block);
  co_return Result<>{};
}

}  // namespace corral::fsck
