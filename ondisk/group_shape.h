/// How blocks are divided into resource groups: header and bitmap blocks in front, data behind, four data blocks to a
/// byte of bitmap. For volumes that are made, and for those that grow.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/strong.h"
#include "ondisk/geometry.h"
#include "ondisk/layout.h"

namespace corral::ondisk {

/// Size of a resource group.
struct GroupShape {
  std::uint32_t length = 0;  ///< blocks of header and bitmaps
  std::uint32_t data = 0;    ///< data blocks, a multiple of 4
  std::uint64_t blocks() const { return std::uint64_t{length} + data; }
};

/// The smallest group with at least so many data blocks (> 0).
GroupShape group_with_data(const Geometry& geometry, std::uint64_t data);
/// The largest group within so many blocks; none where not even 4 data blocks fit.
std::optional<GroupShape> group_within(const Geometry& geometry, std::uint64_t blocks);

/// Where groups may begin and how long they may be, so that stripes of a RAID are not torn and the groups' headers are
/// spread over its disks: each takes some whole stripes and one unit more, so the next begins one disk further.
struct GroupAlignment {
  std::uint64_t unit_blocks = 1;  ///< 1 and 1: no alignment
  std::uint64_t width_blocks = 1;
  std::uint64_t first_block = 0;  ///< where the device's first whole stripe unit begins

  /// By what a disk says of its stripes (0: nothing): no alignment where that makes no sense for blocks of this size.
  static GroupAlignment of_stripes(const Geometry& geometry, std::uint64_t unit_bytes, std::uint64_t width_bytes,
                                   std::uint64_t offset_bytes);
  /// No longer stripe makes sense.
  static constexpr std::uint64_t kMaxWidthBytes = std::uint64_t{32} << 20;

  bool enabled() const { return width_blocks > 1; }
  /// The first place from `block` on where a group may begin.
  BlockNo align(BlockNo block) const;
  /// The shortest span that a group of so many blocks may take.
  std::uint64_t span_for(std::uint64_t blocks) const;
};

/// Divides a span that begins at an aligned place into `count` groups as even as can be; gives the span of each. Empty
/// where the span is too small for so many (of at least a whole stripe each).
std::vector<std::uint64_t> divide_evenly(const Geometry& geometry, const GroupAlignment& alignment,
                                         std::uint64_t blocks, std::uint64_t count);

/// Makes block `index` of header and bitmaps of a group at `address` in which everything is free; `block` is one block
/// of zeros. `skip`: blocks to the next group, 0 for the last.
void fill_group_block(std::span<std::byte> block, std::uint64_t index, BlockNo address, GroupShape shape,
                      std::uint32_t skip);
/// Its entry in the resource index.
ResourceGroupIndexEntry index_entry(BlockNo address, GroupShape shape);

}  // namespace corral::ondisk
