/// A set of block numbers of one volume: a bit for each block, in pages that are there once one of their blocks is.
#pragma once

#include <bitset>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>

#include "base/strong.h"

namespace corral::image {

/// Memory: at most 32 MiB for each TiB of a volume with blocks of 4096 bytes, and less where metadata lies together.
class BlockSet {
 public:
  bool contains(BlockNo block) const {
    const auto page = pages_.find(block.value / kPageBlocks);
    return page != pages_.end() && page->second->test(block.value % kPageBlocks);
  }
  void insert(BlockNo block) {
    std::unique_ptr<Page>& page = pages_[block.value / kPageBlocks];
    if (!page) page = std::make_unique<Page>();
    size_ += page->test(block.value % kPageBlocks) ? 0 : 1;
    page->set(block.value % kPageBlocks);
  }
  std::uint64_t size() const { return size_; }

  /// The lowest block of the set that is not below `from`.
  std::optional<BlockNo> next(BlockNo from) const {
    for (auto page = pages_.lower_bound(from.value / kPageBlocks); page != pages_.end(); ++page) {
      const std::uint64_t begin = page->first * kPageBlocks;
      for (std::uint64_t i = from.value > begin ? from.value - begin : 0; i < kPageBlocks; ++i)
        if (page->second->test(i)) return BlockNo(begin + i);
    }
    return std::nullopt;
  }

 private:
  static constexpr std::uint64_t kPageBlocks = 32768;
  using Page = std::bitset<kPageBlocks>;

  std::map<std::uint64_t, std::unique_ptr<Page>> pages_;
  std::uint64_t size_ = 0;
};

}  // namespace corral::image
