#include "tools/corral/space_report.h"

#include <algorithm>

#include "tools/adopt/group_blocks.h"

namespace corral {

namespace {

void measure_runs(BitmapView bitmap, GroupSpace& space) {
  const HeldBlocks none;
  const std::uint32_t end = std::min<std::uint32_t>(bitmap.blocks(), space.entry.data);
  for (std::uint32_t at = bitmap.find_free(0, none); at < end;) {
    const std::uint32_t taken = bitmap.find_taken(at, end, none);
    ++space.free_runs;
    space.longest_free = std::max(space.longest_free, taken - at);
    at = taken < end ? bitmap.find_free(taken, none) : end;
  }
}

}  // namespace

Task<Result<std::vector<std::byte>>> read_bitmap(const VolumeReader& volume, ondisk::ResourceGroupIndexEntry entry) {
  std::vector<std::byte> bitmap;
  for (std::uint64_t i = 0; i < entry.length && bitmap.size() < entry.bitmap_bytes; ++i) {
    CO_TRY(const AlignedBuffer block, co_await volume.read_block(BlockNo(entry.addr + i)));
    const auto part = block.span().subspan(ondisk::bitmap_offset(i));
    bitmap.insert(bitmap.end(), part.begin(),
                  part.begin() + static_cast<std::ptrdiff_t>(
                                     std::min<std::size_t>(part.size(), entry.bitmap_bytes - bitmap.size())));
  }
  co_return bitmap;
}

Task<Result<std::vector<GroupSpace>>> measure_space(const VolumeReader& volume, bool bitmaps) {
  CO_TRY(const std::vector<ondisk::ResourceGroupIndexEntry> entries, co_await read_rindex(volume));
  std::vector<GroupSpace> groups;
  for (const ondisk::ResourceGroupIndexEntry& entry : entries) {
    CO_TRY(const AlignedBuffer header, co_await volume.read_block(BlockNo(entry.addr)));
    if (const Result<> sound = ondisk::check_rgrp(header.span(), entry); !sound)
      co_return std::unexpected(sound.error());
    const auto& group = ondisk::view<ondisk::ResourceGroup>(header.span());
    GroupSpace space{.entry = entry, .free = group.free, .dinodes = group.dinodes, .counts = {}};
    if (bitmaps) {
      CO_TRY(const std::vector<std::byte> bitmap, co_await read_bitmap(volume, entry));
      space.counts = BitmapView(bitmap).counts();
      measure_runs(BitmapView(bitmap), space);
    }
    groups.push_back(space);
  }
  co_return groups;
}

}  // namespace corral
