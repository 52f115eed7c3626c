#include "ondisk/group_shape.h"

#include "base/check.h"
#include "ondisk/checksum.h"

namespace corral::ondisk {

namespace {

std::uint64_t round_up(std::uint64_t value, std::uint64_t unit) {
  return (value + unit - 1) / unit * unit;
}

GroupShape shape_of(const Geometry& geometry, std::uint64_t bitmap_bytes) {
  const std::uint64_t data = bitmap_bytes * kBlocksPerBitmapByte;
  CHECK_INVARIANT(data <= 0xFFFFFFFF);
  return {.length = static_cast<std::uint32_t>(geometry.rgrp_length(bitmap_bytes)),
          .data = static_cast<std::uint32_t>(data)};
}

}  // namespace

GroupShape group_with_data(const Geometry& geometry, std::uint64_t data) {
  CHECK_INVARIANT(data > 0);
  return shape_of(geometry, round_up(data, kBlocksPerBitmapByte) / kBlocksPerBitmapByte);
}

std::optional<GroupShape> group_within(const Geometry& geometry, std::uint64_t blocks) {
  // Every further header block takes room from the data, so the bitmap that fits is found from above.
  for (std::uint64_t length = geometry.rgrp_length(blocks / kBlocksPerBitmapByte); length > 0; --length) {
    if (blocks < length + kBlocksPerBitmapByte) continue;
    const std::uint64_t bytes = (blocks - length) / kBlocksPerBitmapByte;
    const std::uint64_t needed = geometry.rgrp_length(bytes);
    if (needed == length) return shape_of(geometry, bytes);
    // One header block less leaves room for more bitmap than it holds: fill it.
    if (needed > length) return shape_of(geometry, geometry.rgrp_bitmap_bytes(length));
  }
  return std::nullopt;
}

GroupAlignment GroupAlignment::of_stripes(const Geometry& geometry, std::uint64_t unit_bytes, std::uint64_t width_bytes,
                                          std::uint64_t offset_bytes) {
  GroupAlignment result;
  const std::uint64_t block = geometry.block_size();
  // Some disks report odd or huge figures.
  const bool sensible = unit_bytes >= block && unit_bytes % block == 0 && width_bytes > block &&
                        width_bytes % unit_bytes == 0 && width_bytes <= kMaxWidthBytes;
  if (!sensible) return result;
  result.unit_blocks = unit_bytes / block;
  result.width_blocks = width_bytes / block;
  if (offset_bytes % block == 0) result.first_block = offset_bytes / block % result.unit_blocks;
  return result;
}

BlockNo GroupAlignment::align(BlockNo block) const {
  if (block.value <= first_block) return BlockNo(first_block);
  return BlockNo(first_block + round_up(block.value - first_block, unit_blocks));
}

std::uint64_t GroupAlignment::span_for(std::uint64_t blocks) const {
  if (!enabled()) return blocks;
  const std::uint64_t behind_unit = blocks > unit_blocks ? blocks - unit_blocks : 1;
  return round_up(behind_unit, width_blocks) + unit_blocks;
}

std::vector<std::uint64_t> divide_evenly(const Geometry& geometry, const GroupAlignment& alignment,
                                         std::uint64_t blocks, std::uint64_t count) {
  CHECK_INVARIANT(count > 0);
  // Each span is `fixed` blocks and a number of `step`s.
  std::uint64_t fixed = alignment.unit_blocks;
  std::uint64_t step = alignment.width_blocks;
  if (!alignment.enabled()) {
    auto even = group_within(geometry, blocks / count);
    if (!even) return {};
    fixed = even->length;
    step = kBlocksPerBitmapByte;
  }
  if (blocks < fixed * count) return {};
  const std::uint64_t steps = (blocks - fixed * count) / step;
  if (alignment.enabled() && steps < count) return {};
  std::vector<std::uint64_t> spans(count, fixed + steps / count * step);
  for (std::uint64_t i = 0; i < steps % count; ++i)
    spans[i] += step;
  return spans;
}

void fill_group_block(std::span<std::byte> block, std::uint64_t index, BlockNo address, GroupShape shape,
                      std::uint32_t skip) {
  if (index > 0) return view<MetaHeader>(block).set(MetaType::resource_group_bitmap);
  auto& header = view<ResourceGroup>(block);
  header.header.set(MetaType::resource_group);
  header.free = shape.data;
  header.skip = skip;
  header.data0 = (address + shape.length).value;
  header.data = shape.data;
  header.bitmap_bytes = shape.data / kBlocksPerBitmapByte;
  header.crc = rgrp_crc(header);
}

ResourceGroupIndexEntry index_entry(BlockNo address, GroupShape shape) {
  ResourceGroupIndexEntry entry{};
  entry.addr = address.value;
  entry.length = shape.length;
  entry.data0 = (address + shape.length).value;
  entry.data = shape.data;
  entry.bitmap_bytes = shape.data / kBlocksPerBitmapByte;
  return entry;
}

}  // namespace corral::ondisk
