#include "tools/mkfs/file_tree.h"

#include <algorithm>

#include "base/check.h"
#include "ondisk/layout.h"

namespace corral::mkfs {

using namespace ondisk;

namespace {
void fill_pointers(std::span<be64> slots, BlockNo first, std::uint64_t count) {
  for (std::uint64_t i = 0; i < count; ++i)
    slots[i] = first.value + i;
}
}  // namespace

FileTree::FileTree(const Geometry& geometry, BlockNo dinode, std::uint64_t data_blocks)
    : dinode_(dinode), indirect_pointers_(geometry.indirect_pointers()) {
  CHECK_INVARIANT(data_blocks > 0);
  std::vector<std::uint64_t> counts{data_blocks};
  while (counts.back() > geometry.dinode_pointers())
    counts.push_back((counts.back() + indirect_pointers_ - 1) / indirect_pointers_);
  BlockNo start = dinode + 1;
  for (auto count = counts.rbegin(); count != counts.rend(); ++count) {
    levels_.push_back({start, *count});
    start += *count;
  }
}

std::uint64_t FileTree::blocks() const {
  return levels_.back().start + levels_.back().count - dinode_;
}

void FileTree::fill_dinode_pointers(std::span<std::byte> block) const {
  fill_pointers(pointers(block, sizeof(Dinode)), levels_.front().start, levels_.front().count);
}

void FileTree::fill_indirect(BlockNo address, std::span<std::byte> block) const {
  auto below = std::find_if(levels_.begin(), levels_.end(), [&](const Level& level) { return address < level.start; });
  CHECK_INVARIANT(below != levels_.begin() && below != levels_.end());
  const Level& own = *(below - 1);
  const std::uint64_t first = (address - own.start) * indirect_pointers_;
  view<MetaHeader>(block).set(MetaType::indirect);
  fill_pointers(pointers(block, sizeof(MetaHeader)), below->start + first,
                std::min<std::uint64_t>(indirect_pointers_, below->count - first));
}

}  // namespace corral::mkfs
