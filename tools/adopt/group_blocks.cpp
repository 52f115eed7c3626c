#include "tools/adopt/group_blocks.h"

#include <algorithm>
#include <cstring>

#include "fs/bitmap.h"
#include "ondisk/checksum.h"

namespace corral {

using namespace ondisk;

namespace {

constexpr std::uint64_t kMostRindexBytes = 64 << 20;

Result<> check_group_block(std::span<const std::byte> block, const ResourceGroupIndexEntry& entry,
                           std::uint32_t index) {
  if (index == 0) return check_rgrp(block, entry);
  return check_meta_header(block, BlockNo(entry.addr + index), MetaType::resource_group_bitmap);
}

/// The group's bitmap, joined from its blocks.
Task<Result<std::vector<std::byte>>> read_bitmap(const VolumeReader& volume, const ResourceGroupIndexEntry& entry) {
  std::vector<std::byte> bitmap;
  for (std::uint32_t i = 0; i < entry.length; ++i) {
    CO_TRY(AlignedBuffer block, co_await volume.read_block(BlockNo(entry.addr + i)));
    CO_TRY_VOID(check_group_block(block.span(), entry, i));
    const auto bytes = block.span().subspan(bitmap_offset(i));
    bitmap.insert(bitmap.end(), bytes.begin(), bytes.end());
  }
  bitmap.resize(entry.bitmap_bytes);
  co_return bitmap;
}

Task<Result<ResourceGroupIndexEntry>> group_of(const VolumeReader& volume, BlockNo first, std::uint32_t blocks) {
  CO_TRY(auto groups, co_await read_rindex(volume));
  for (const ResourceGroupIndexEntry& entry : groups) {
    if (first.value >= entry.data0 && first.value + blocks <= entry.data0 + entry.data) co_return entry;
  }
  co_return fail_corrupt("blocks {} to {} do not lie in one resource group", first.value, first.value + blocks - 1);
}

}  // namespace

Task<Result<std::vector<ResourceGroupIndexEntry>>> read_rindex(const VolumeReader& volume) {
  CO_TRY(OfflineInode rindex, co_await volume.system_file("rindex"));
  CO_TRY(std::vector<std::byte> bytes, co_await volume.read_contents(rindex, kMostRindexBytes));
  std::vector<ResourceGroupIndexEntry> entries(bytes.size() / sizeof(ResourceGroupIndexEntry));
  std::memcpy(entries.data(), bytes.data(), entries.size() * sizeof(ResourceGroupIndexEntry));
  for (std::size_t i = 0; i < entries.size(); ++i)
    CO_TRY_VOID(check_rindex_entry(entries[i], i, volume.geometry(), volume.volume_blocks()));
  co_return entries;
}

Task<Result<BlockNo>> find_free_run(const VolumeReader& volume, std::uint32_t blocks) {
  CO_TRY(auto groups, co_await read_rindex(volume));
  for (const ResourceGroupIndexEntry& entry : groups) {
    CO_TRY(AlignedBuffer head, co_await volume.read_block(BlockNo(entry.addr)));
    CO_TRY_VOID(check_rgrp(head.span(), entry));
    if (view<ResourceGroup>(head.span()).free < blocks) continue;
    CO_TRY(std::vector<std::byte> bitmap, co_await read_bitmap(volume, entry));
    const BlockRun run = BitmapView(bitmap).find_run(0, entry.data, blocks, HeldBlocks());
    if (run.length >= blocks) co_return BlockNo(entry.data0 + run.first);
  }
  co_return fail(ENOSPC, "{}: no resource group has {} free blocks in one piece", volume.device().name(), blocks);
}

Task<Result<>> mark_run(OfflineTransaction& transaction, BlockNo first, std::uint32_t blocks, bool take) {
  CO_TRY(ResourceGroupIndexEntry entry, co_await group_of(transaction.volume(), first, blocks));
  const auto begin = static_cast<std::uint32_t>(first.value - entry.data0);
  const std::uint32_t end = begin + blocks;
  std::uint32_t block_first = 0;  // index in the group's data of the first block that this bitmap block tells of
  for (std::uint32_t i = 0; i < entry.length && block_first < end; ++i) {
    CO_TRY(std::span<std::byte> block, co_await transaction.change(BlockNo(entry.addr + i)));
    CO_TRY_VOID(check_group_block(block, entry, i));
    const auto bitmap = block.subspan(bitmap_offset(i));
    const auto told = static_cast<std::uint32_t>(bitmap.size()) * kBlocksPerBitmapByte;
    for (std::uint32_t at = std::max(begin, block_first); at < std::min(end, block_first + told); ++at) {
      const BlockState in_use = at == begin ? BlockState::dinode : BlockState::used;
      const BlockState from = take ? BlockState::free : in_use;
      const BlockState found = BitmapView(bitmap).at(at - block_first);
      if (found != from)
        co_return fail_corrupt("resource group {}: block {} in state {}, expected {}", entry.addr.value(),
                               entry.data0 + at, static_cast<int>(found), static_cast<int>(from));
      set_states(bitmap, at - block_first, 1, take ? in_use : BlockState::free);
    }
    block_first += told;
  }
  CO_TRY(std::span<std::byte> head, co_await transaction.change(BlockNo(entry.addr)));
  auto& group = view<ResourceGroup>(head);
  group.free = take ? group.free - blocks : group.free + blocks;
  group.dinodes = take ? group.dinodes + 1 : group.dinodes - 1;
  group.crc = rgrp_crc(group);
  co_return Result<>{};
}

}  // namespace corral
