/// What each block of the resource groups is: as the bitmaps on the disk have it, and as what refers to it says. Four
/// bits a block.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/strong.h"
#include "ondisk/layout.h"

namespace corral::fsck {

/// A resource group as the index has it (struct gfs2_rindex), checked.
struct Group {
  BlockNo addr;
  std::uint32_t length = 0;  ///< blocks of header and bitmaps
  BlockNo data0;
  std::uint32_t data = 0;         ///< data blocks, a multiple of 4
  std::uint64_t first_index = 0;  ///< place of data0 in the map
  /// The header or a bitmap block was lost: the states on the disk are no evidence.
  bool lost = false;

  BlockNo end() const { return data0 + data; }
};

/// What refers to a block, as far as it decides who may share it and what the bitmap must say.
enum class Use : std::uint8_t { none = 0, data = 1, metadata = 2, dinode = 3 };

constexpr ondisk::BlockState state_for(Use use) {
  if (use == Use::dinode) return ondisk::BlockState::dinode;
  return use == Use::none ? ondisk::BlockState::free : ondisk::BlockState::used;
}

class BlockMap {
 public:
  BlockMap() = default;
  /// Groups in order of their places, none overlapping. Sets their first_index.
  explicit BlockMap(std::vector<Group> groups);

  const std::vector<Group>& groups() const { return groups_; }
  std::vector<Group>& groups() { return groups_; }
  std::uint64_t size() const { return size_; }
  /// False for what is no data block of a group.
  bool contains(BlockNo block) const { return find(block) != nullptr; }

  /// The block lies in a group (checked).
  ondisk::BlockState on_disk(BlockNo block) const;
  Use use(BlockNo block) const { return static_cast<Use>(get(uses_, index_of(block))); }
  void set_use(BlockNo block, Use use) { set(uses_, index_of(block), static_cast<std::uint8_t>(use)); }
  /// Four states as they stand in one byte of the bitmap; `index` is a multiple of 4.
  void set_on_disk_byte(std::uint64_t index, std::uint8_t byte) { states_[index / 4] = byte; }
  std::uint8_t on_disk_byte(std::uint64_t index) const { return states_[index / 4]; }
  /// What the bitmap's byte must be.
  std::uint8_t wanted_byte(std::uint64_t index) const;

  /// A block that is free on the disk as well as by use, searched from the last one given; its use becomes `use`.
  std::optional<BlockNo> allocate(Use use);

 private:
  static std::uint8_t get(const std::vector<std::uint8_t>& bits, std::uint64_t index) {
    return bits[index / 4] >> (index % 4 * 2) & 3;
  }
  static void set(std::vector<std::uint8_t>& bits, std::uint64_t index, std::uint8_t value) {
    const auto shift = static_cast<int>(index % 4 * 2);
    bits[index / 4] = static_cast<std::uint8_t>((bits[index / 4] & ~(3 << shift)) | (value << shift));
  }
  const Group* find(BlockNo block) const;
  std::uint64_t index_of(BlockNo block) const;

  std::vector<Group> groups_;
  std::uint64_t size_ = 0;
  std::vector<std::uint8_t> states_;
  std::vector<std::uint8_t> uses_;
  mutable std::size_t last_found_ = 0;
  std::size_t search_group_ = 0;
  std::uint64_t search_from_ = 0;
};

}  // namespace corral::fsck
