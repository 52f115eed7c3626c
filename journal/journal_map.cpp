#include "journal/journal_map.h"

#include <algorithm>

namespace corral {

void JournalMap::append(BlockNo start, std::uint32_t length) {
  if (!extents_.empty() && extents_.back().start + extents_.back().length == start) {
    extents_.back().length += length;
  } else {
    extents_.push_back({size_, start, length});
  }
  size_ += length;
}

JournalMap::Run JournalMap::run_at(std::uint32_t journal_block) const {
  CHECK_INVARIANT(journal_block < size_);
  auto after = std::upper_bound(extents_.begin(), extents_.end(), journal_block,
                                [](std::uint32_t block, const Extent& extent) { return block < extent.first; });
  const Extent& extent = *std::prev(after);
  std::uint32_t within = journal_block - extent.first;
  return {extent.start + within, extent.length - within};
}

}  // namespace corral
