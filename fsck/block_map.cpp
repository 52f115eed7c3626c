#include "fsck/block_map.h"

#include <algorithm>

#include "base/check.h"

namespace corral::fsck {

using ondisk::BlockState;

BlockMap::BlockMap(std::vector<Group> groups) : groups_(std::move(groups)) {
  for (Group& group : groups_) {
    group.first_index = size_;
    size_ += group.data;
  }
  states_.resize((size_ + 3) / 4);
  uses_.resize((size_ + 3) / 4);
}

const Group* BlockMap::find(BlockNo block) const {
  auto within = [block](const Group& group) { return block >= group.data0 && block < group.end(); };
  if (last_found_ < groups_.size() && within(groups_[last_found_])) return &groups_[last_found_];
  auto behind = std::upper_bound(groups_.begin(), groups_.end(), block,
                                 [](BlockNo place, const Group& group) { return place < group.data0; });
  if (behind == groups_.begin() || !within(*(behind - 1))) return nullptr;
  last_found_ = static_cast<std::size_t>(behind - groups_.begin()) - 1;
  return &groups_[last_found_];
}

std::uint64_t BlockMap::index_of(BlockNo block) const {
  const Group* group = find(block);
  CHECK_INVARIANT(group != nullptr);
  return group->first_index + (block - group->data0);
}

BlockState BlockMap::on_disk(BlockNo block) const {
  return static_cast<BlockState>(get(states_, index_of(block)));
}

std::uint8_t BlockMap::wanted_byte(std::uint64_t index) const {
  // Four uses at once: data (01) and metadata (10) become "used" (01), dinode (11) stays.
  const unsigned uses = uses_[index / 4];
  const unsigned low = uses & 0x55u;
  const unsigned high = uses & 0xAAu;
  return static_cast<std::uint8_t>(low | high >> 1 | (high & low << 1));
}

std::optional<BlockNo> BlockMap::allocate(Use use) {
  for (; search_group_ < groups_.size(); ++search_group_, search_from_ = 0) {
    const Group& group = groups_[search_group_];
    for (; search_from_ < group.data; ++search_from_) {
      const std::uint64_t index = group.first_index + search_from_;
      if (get(states_, index) != 0 || get(uses_, index) != 0) continue;
      set(uses_, index, static_cast<std::uint8_t>(use));
      return group.data0 + search_from_++;
    }
  }
  return std::nullopt;
}

}  // namespace corral::fsck
