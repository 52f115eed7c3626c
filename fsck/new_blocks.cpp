#include "fsck/new_blocks.h"

#include <algorithm>

#include <sys/stat.h>

#include "base/check.h"

namespace corral::fsck {

using namespace ondisk;

std::optional<std::vector<BlockNo>> take_blocks(Volume& volume, std::uint64_t count, Use use) {
  std::vector<BlockNo> blocks;
  while (blocks.size() < count) {
    std::optional<BlockNo> block = volume.map.allocate(use);
    if (!block) {
      for (BlockNo taken : blocks)
        volume.map.set_use(taken, Use::none);
      return std::nullopt;
    }
    blocks.push_back(*block);
  }
  return blocks;
}

std::uint64_t indirect_blocks(const Geometry& geometry, std::uint64_t data_blocks) {
  std::uint64_t sum = 0;
  for (std::uint64_t level = data_blocks; level > geometry.dinode_pointers();) {
    level = (level + geometry.indirect_pointers() - 1) / geometry.indirect_pointers();
    sum += level;
  }
  return sum;
}

void write_tree(Volume& volume, std::span<const BlockNo> data, std::span<const BlockNo> indirects,
                std::span<std::byte> dinode) {
  std::vector<BlockNo> level(data.begin(), data.end());
  std::uint16_t height = 1;
  const std::size_t width = volume.geometry.indirect_pointers();
  for (; level.size() > volume.geometry.dinode_pointers(); ++height) {
    std::vector<BlockNo> above;
    for (std::size_t first = 0; first < level.size(); first += width) {
      CHECK_INVARIANT(!indirects.empty());
      BlockBytes bytes(volume.geometry.block_size());
      view<MetaHeader>(bytes).set(MetaType::indirect);
      auto all = pointers(std::span<std::byte>(bytes), sizeof(MetaHeader));
      for (std::size_t i = 0; i < std::min(width, level.size() - first); ++i)
        all[i] = level[first + i].value;
      volume.write(indirects.front(), bytes);
      above.push_back(indirects.front());
      indirects = indirects.subspan(1);
    }
    level = std::move(above);
  }
  std::fill(dinode.begin() + sizeof(Dinode), dinode.end(), std::byte{0});
  auto all = pointers(dinode, sizeof(Dinode));
  for (std::size_t i = 0; i < level.size(); ++i)
    all[i] = level[i].value;
  view<Dinode>(dinode).height = height;
}

BlockBytes new_dinode(Volume& volume, BlockNo address, std::uint32_t mode, std::uint32_t flags) {
  BlockBytes block(volume.geometry.block_size());
  auto& dinode = view<Dinode>(block);
  dinode.header.set(MetaType::dinode);
  dinode.num.formal_ino = volume.new_formal_ino();
  dinode.num.addr = address.value;
  dinode.mode = mode;
  dinode.nlink = S_ISDIR(mode) ? 2 : 1;
  dinode.blocks = 1;
  dinode.goal_meta = dinode.goal_data = address.value;
  dinode.flags = flags;
  return block;
}

}  // namespace corral::fsck
