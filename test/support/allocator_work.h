/// Small pieces of work on an AllocatorMount, each a transaction of its own, and a look at the result on the disk.
#pragma once

#include <map>
#include <vector>

#include "test/support/allocator_volume.h"
#include "test/support/catch.h"

namespace corral::test {

/// The scenario went through; says where it stopped if not.
inline void require(const Result<>& result) {
  INFO((result ? "" : result.error().describe()));
  REQUIRE(result);
}

/// What the bitmaps and headers of the image say.
struct Census {
  std::map<BlockNo, ondisk::BlockState> states;
  StateCounts counts;
};

inline Census take_census(const DiskImage& image, const AllocatorLayout& layout, const ondisk::Geometry& geometry) {
  Census census;
  for (const auto& group : layout.groups) {
    StateCounts here;
    std::uint32_t index = 0;
    std::vector<std::byte> header(geometry.block_size());
    for (std::uint32_t i = 0; i < group.length; ++i) {
      std::vector<std::byte> bytes(geometry.block_size());
      image.read(geometry.offset_bytes(group.address + i), bytes);
      if (i == 0) header = bytes;
      const std::size_t offset = i == 0 ? sizeof(ondisk::ResourceGroup) : sizeof(ondisk::MetaHeader);
      const std::size_t length = std::min<std::size_t>(bytes.size() - offset, (group.blocks - index) / 4);
      const BitmapView view(std::span<const std::byte>(bytes).subspan(offset, length));
      for (std::uint32_t block = 0; block < view.blocks(); ++block, ++index)
        census.states[group.first + index] = view.at(block);
      const StateCounts counts = view.counts();
      here.free += counts.free;
      here.used += counts.used;
      here.unlinked += counts.unlinked;
      here.dinodes += counts.dinodes;
    }
    const auto& disk = ondisk::view<ondisk::ResourceGroup>(std::span<const std::byte>(header));
    CHECK(disk.free == here.free);
    CHECK(disk.dinodes == here.dinodes + here.unlinked);
    CHECK(disk.crc == ondisk::rgrp_crc(disk));
    census.counts.free += here.free;
    census.counts.used += here.used;
    census.counts.unlinked += here.unlinked;
    census.counts.dinodes += here.dinodes;
  }
  return census;
}

/// One transaction that takes `count` blocks.
inline Task<Result<std::vector<BlockNo>>> take(AllocatorMount& mount, AllotmentRequest request) {
  std::vector<BlockNo> taken;
  CO_TRY(Allotment allotment, co_await mount.allocator->allot(request));
  CO_TRY(Transaction transaction, co_await mount.journal->begin({.blocks = allotment.log_blocks()}));
  while (taken.size() < request.blocks) {
    const auto left = static_cast<std::uint32_t>(request.blocks - taken.size());
    CO_TRY(const Extent extent, allotment.take_blocks(transaction, left));
    CHECK(extent.length >= 1);
    CHECK(extent.length <= left);
    for (std::uint32_t i = 0; i < extent.length; ++i)
      taken.push_back(extent.start + i);
  }
  co_return taken;
}

inline Task<Result<>> give_back(AllocatorMount& mount, std::vector<BlockNo> blocks, Ownership owner = {}) {
  CO_TRY(Release release, co_await mount.allocator->prepare_release(blocks));
  CO_TRY(Transaction transaction, co_await mount.journal->begin({.blocks = release.log_blocks()}));
  for (BlockNo block : blocks) {
    CHECK(release.covers(block));
    CO_TRY_VOID(release.free_blocks(transaction, {block, 1}, owner));
  }
  co_return Result<>{};
}

inline Task<Result<Allotment::NewDinode>> take_dinode(AllocatorMount& mount, AllotmentRequest request,
                                                      ondisk::BlockState state = ondisk::BlockState::dinode) {
  request.blocks = request.dinodes = 1;
  CO_TRY(Allotment allotment, co_await mount.allocator->allot(request));
  CO_TRY(Transaction transaction, co_await mount.journal->begin({.blocks = allotment.log_blocks()}));
  co_return allotment.take_dinode(transaction, state);
}

inline Task<Result<>> unlink(AllocatorMount& mount, BlockNo block) {
  CO_TRY(Release release, co_await mount.allocator->prepare_release(std::vector<BlockNo>{block}));
  CO_TRY(Transaction transaction, co_await mount.journal->begin({.blocks = release.log_blocks()}));
  co_return release.set_unlinked(transaction, block);
}

inline Task<Result<>> free_dinode(AllocatorMount& mount, BlockNo block) {
  CO_TRY(Release release, co_await mount.allocator->prepare_release(std::vector<BlockNo>{block}));
  CO_TRY(Transaction transaction, co_await mount.journal->begin({.blocks = release.log_blocks()}));
  co_return release.free_dinode(transaction, block, Ownership{});
}

}  // namespace corral::test
