/// Walks the extended attributes (struct gfs2_ea_header) of one block of type ea_block.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "base/result.h"
#include "base/strong.h"
#include "ondisk/layout.h"

namespace corral::ondisk {

/// One record as it lies in the block. Unused records have no name, value or pointers.
struct EaRecord {
  std::size_t offset_bytes;  ///< of its header in the block
  std::size_t record_bytes;  ///< to the next one or the block's end
  bool last;
  EaType type;
  std::string_view name;
  std::uint32_t value_bytes;         ///< length of the value, wherever it is
  std::span<const std::byte> value;  ///< the value, if it is in the record
  std::span<const be64> pointers;    ///< else the blocks (type ea_data) that hold it, as many as it needs

  bool is_inline() const { return pointers.empty(); }
};

/// Bytes a record needs: with the value inside, or with pointers to `pointers` blocks.
constexpr std::size_t ea_inline_bytes(std::size_t name_bytes, std::size_t value_bytes) {
  return (sizeof(ExtendedAttributeHeader) + name_bytes + value_bytes + 7) & ~std::size_t{7};
}
constexpr std::size_t ea_pointer_bytes(std::size_t name_bytes, std::size_t pointers) {
  return sizeof(ExtendedAttributeHeader) + ((name_bytes + 7) & ~std::size_t{7}) + pointers * sizeof(be64);
}

/// Gives the records in order, each checked before it is given: it lies within the block and holds its name and its
/// value or pointers; the type is one that the format knows; the one flagged as last ends with the block. Does not
/// suspend, does not own the block.
class EaWalker {
 public:
  /// `fs_format` 1801 knows no trusted attributes. The block's type is checked by the first next().
  EaWalker(std::span<const std::byte> block, BlockNo address, std::uint32_t fs_format);

  /// The next record, or nothing behind the last one. After an error the walk is over.
  Result<std::optional<EaRecord>> next();

 private:
  Result<> check_extent(const ExtendedAttributeHeader& header, std::size_t place) const;
  Result<EaRecord> decode(const ExtendedAttributeHeader& header, std::size_t place) const;

  std::span<const std::byte> block_;
  BlockNo address_;
  std::uint32_t fs_format_;
  std::size_t next_ = sizeof(MetaHeader);
  bool done_ = false;
};

}  // namespace corral::ondisk
