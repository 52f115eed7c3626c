/// The attributes of one block of type ea_block (struct gfs2_ea_header), as they lie there and as they are to be laid
/// out. Pure; nothing here reads or writes a device.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/strong.h"
#include "ondisk/ea_walker.h"
#include "ondisk/geometry.h"
#include "ondisk/layout.h"

namespace corral {

/// One attribute: its value inside, or in blocks of their own (type ea_data).
struct StoredAttribute {
  ondisk::EaType type = ondisk::EaType::unused;
  std::string name;
  std::uint32_t value_bytes = 0;
  std::vector<std::byte> value;  ///< empty where `blocks` hold it
  std::vector<BlockNo> blocks;

  /// Bytes of its record.
  std::size_t record_bytes() const {
    return blocks.empty() ? ondisk::ea_inline_bytes(name.size(), value.size())
                          : ondisk::ea_pointer_bytes(name.size(), blocks.size());
  }
};

/// How a value of that size is stored.
struct ValuePlacement {
  std::size_t record_bytes = 0;
  std::uint32_t blocks = 0;  ///< of type ea_data; 0: the value is in the record

  /// As the kernel decides: in the record if an otherwise empty block could hold it.
  static ValuePlacement choose(const ondisk::Geometry& geometry, std::size_t name_bytes, std::size_t value_bytes);
  static ValuePlacement in_blocks(const ondisk::Geometry& geometry, std::size_t name_bytes, std::size_t value_bytes);
};

/// Bytes of records in an ea_block, and of a value in an ea_data block.
inline std::size_t attribute_room_bytes(const ondisk::Geometry& geometry) {
  return geometry.block_size() - sizeof(ondisk::MetaHeader);
}

/// Bytes that the attributes of the block take when they are laid out without gaps.
Result<std::size_t> attribute_bytes(std::span<const std::byte> block, BlockNo address, std::uint32_t fs_format);
Result<std::vector<StoredAttribute>> read_attributes(std::span<const std::byte> block, BlockNo address,
                                                     std::uint32_t fs_format);
/// Lays the attributes out behind the block's MetaHeader, in order and without gaps; the last record takes what is left
/// of the block. They must fit.
void write_attributes(std::span<std::byte> block, std::span<const StoredAttribute> attributes);

/// Lays a part of a value out in a block of type ea_data, MetaHeader included.
void write_value_block(std::span<std::byte> block, std::span<const std::byte> part);

}  // namespace corral
