#include "fsck/height_probe.h"

#include <algorithm>

#include "fsck/walk_policies.h"
#include "ondisk/validate.h"

namespace corral::fsck {

using namespace ondisk;

namespace {

constexpr std::size_t kPointersTried = 8;

/// Levels of indirect blocks, one below the other, that a pointer leads to, up to `most`.
Task<Result<std::uint32_t>> indirect_levels(Volume& volume, BlockNo first, std::uint32_t most) {
  BlockNo block = first;
  for (std::uint32_t levels = 0; levels < most; ++levels) {
    if (!volume.map.contains(block)) co_return levels;
    CO_TRY(const BlockBytes bytes, co_await volume.read(block));
    if (!has_meta_type(bytes, MetaType::indirect)) co_return levels;
    auto all = pointers(std::span<const std::byte>(bytes), sizeof(MetaHeader));
    auto used = std::ranges::find_if(all, [](const be64& pointer) { return pointer != 0; });
    if (used == all.end()) co_return levels + 1;
    block = BlockNo(*used);
  }
  co_return most;
}

/// The greatest number of levels that one of the first pointers shows.
Task<Result<std::uint32_t>> greatest_levels(Volume& volume, std::span<const std::byte> dinode, std::uint32_t most) {
  std::uint32_t levels = 0;
  std::size_t tried = 0;
  for (const be64& pointer : pointers(dinode, sizeof(Dinode))) {
    if (pointer == 0) continue;
    if (levels == most || tried++ == kPointersTried) break;
    CO_TRY(const std::uint32_t here, co_await indirect_levels(volume, BlockNo(pointer), most));
    levels = std::max(levels, here);
  }
  co_return levels;
}

}  // namespace

Task<Result<std::uint32_t>> likely_height(Volume& volume, std::span<const std::byte> block) {
  const auto& dinode = view<Dinode>(block);
  const std::uint32_t height = dinode.height;
  auto all = pointers(block, sizeof(Dinode));
  const auto used = static_cast<std::uint64_t>(std::ranges::count_if(all, [](const be64& p) { return p != 0; }));
  if (used == 0) co_return height;
  CO_TRY(const std::uint32_t levels, co_await greatest_levels(volume, block, height - 1));
  if (levels + 1 == height) co_return height;
  // No indirect block at all: either all are lost, or there never was one, and then the dinode's count says so.
  if (levels == 0 && dinode.blocks != used + 1) co_return height;
  co_return levels + 1;
}

Task<Result<std::optional<std::uint32_t>>> greater_height(Volume& volume, BlockNo inode,
                                                          std::span<const std::byte> block) {
  const std::uint32_t height = view<Dinode>(block).height;
  CO_TRY(const std::uint32_t levels, co_await greatest_levels(volume, block, volume.geometry.max_height() - 1));
  if (levels + 1 <= height) co_return std::nullopt;
  BlockBytes higher(block.begin(), block.end());
  view<Dinode>(higher).height = static_cast<std::uint16_t>(levels + 1);
  FollowBlocks follow(volume);
  InodeWalk walk(volume, inode, higher, follow);
  CO_TRY_VOID(co_await walk.run());
  if (walk.bad_pointers() > 0 || walk.blocks() != view<Dinode>(higher).blocks) co_return std::nullopt;
  co_return levels + 1;
}

}  // namespace corral::fsck
