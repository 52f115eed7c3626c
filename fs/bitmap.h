/// Searching and changing one block's worth of a resource group's bitmap, 32 blocks at a time. Pure functions on bytes.
///
/// A bitmap holds two bits for each block (ondisk::BlockState), four blocks in a byte, lowest bits first. Blocks are
/// named by their index in this bitmap.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "ondisk/layout.h"

namespace corral {

/// Neighbouring blocks, by index.
struct BlockRun {
  std::uint32_t first = 0;
  std::uint32_t length = 0;
  std::uint32_t end() const { return first + length; }
};

/// How many blocks are in each state.
struct StateCounts {
  std::uint32_t free = 0;
  std::uint32_t used = 0;
  std::uint32_t unlinked = 0;
  std::uint32_t dinodes = 0;
};

/// A set of blocks of one bitmap that are free but must not be taken. Uses memory only while it is not empty.
class HeldBlocks {
 public:
  bool empty() const { return count_ == 0; }
  std::uint32_t count() const { return count_; }
  /// Adds blocks that are not in the set, to a bitmap of `blocks` blocks.
  void add(std::uint32_t first, std::uint32_t count, std::uint32_t blocks);
  /// Removes blocks that are in the set.
  void remove(std::uint32_t first, std::uint32_t count);
  /// The blocks 32 * word to 32 * word + 31: bit 2 * i stands for the i-th.
  std::uint64_t word(std::size_t word) const { return words_ ? words_[word] : 0; }

 private:
  std::unique_ptr<std::uint64_t[]> words_;
  std::uint32_t count_ = 0;
};

/// A bitmap for reading.
class BitmapView {
 public:
  explicit BitmapView(std::span<const std::byte> bytes) : bytes_(bytes) {}

  std::uint32_t blocks() const { return static_cast<std::uint32_t>(bytes_.size()) * ondisk::kBlocksPerBitmapByte; }
  ondisk::BlockState at(std::uint32_t index) const;
  StateCounts counts() const;
  /// First block at or after `from` in that state; blocks() if there is none.
  std::uint32_t find(ondisk::BlockState state, std::uint32_t from) const;
  /// True if all of these are in that state.
  bool all_in(ondisk::BlockState state, std::uint32_t first, std::uint32_t count) const;
  /// First block at or after `from` that is free and not held; blocks() if there is none.
  std::uint32_t find_free(std::uint32_t from, const HeldBlocks& held) const;
  /// First block at or after `from` and before `end` that is not free or held; `end` if there is none.
  std::uint32_t find_taken(std::uint32_t from, std::uint32_t end, const HeldBlocks& held) const;
  /// The first run of `wanted` blocks in [from, end) that are free and not held (it may be longer than said); if there
  /// is none, the longest.
  BlockRun find_run(std::uint32_t from, std::uint32_t end, std::uint32_t wanted, const HeldBlocks& held) const;

 private:
  std::uint64_t load(std::size_t word) const;
  std::uint64_t free_blocks(std::size_t word, const HeldBlocks& held) const;

  std::span<const std::byte> bytes_;
};

/// Puts `count` blocks from `first` on into a state.
void set_states(std::span<std::byte> bitmap, std::uint32_t first, std::uint32_t count, ondisk::BlockState state);

}  // namespace corral
