#include "tools/mkfs/file_tree.h"

#include "ondisk/validate.h"
#include "test/support/catch.h"

using namespace corral;
using namespace corral::mkfs;
using namespace corral::ondisk;

namespace {
/// Follows the pointers from the dinode down to one data block.
BlockNo data_block(const FileTree& tree, const Geometry& geometry, std::uint64_t index) {
  std::vector<std::byte> block(geometry.block_size());
  tree.fill_dinode_pointers(block);
  std::size_t header = sizeof(Dinode);
  for (std::uint32_t height = tree.height();; --height) {
    std::uint64_t below = 1;
    for (std::uint32_t i = 1; i < height; ++i)
      below *= geometry.indirect_pointers();
    const BlockNo next(pointers(block, header)[index / below]);
    if (height == 1) return next;
    index %= below;
    block.assign(geometry.block_size(), std::byte{0});
    tree.fill_indirect(next, block);
    REQUIRE(check_meta_header(block, next, MetaType::indirect));
    header = sizeof(MetaHeader);
  }
}
}  // namespace

TEST_CASE("a tree's blocks lie one behind the other and lead to the data") {
  for (std::uint32_t block_size : {512u, 4096u}) {
    const Geometry geometry(block_size);
    for (std::uint64_t count : {1u, 35u, 36u, 483u, 484u, 2135u, 2136u, 32768u, 262144u}) {
      const FileTree tree(geometry, BlockNo(100), count);
      CHECK(tree.height() == geometry.height_for_blocks(count));
      CHECK(tree.blocks() == (tree.first_data() - BlockNo(100)) + count);
      CHECK(tree.contains(BlockNo(100)));
      CHECK(tree.contains(BlockNo(99 + tree.blocks())));
      CHECK(!tree.contains(BlockNo(100 + tree.blocks())));
      for (std::uint64_t index : {std::uint64_t{0}, count / 2, count - 1})
        CHECK(data_block(tree, geometry, index) == tree.first_data() + index);
    }
  }
}

TEST_CASE("the last indirect block has no pointers beyond the data") {
  const Geometry geometry(4096);
  const FileTree tree(geometry, BlockNo(10), 509 * 3 + 7);
  std::vector<std::byte> block(4096);
  tree.fill_indirect(BlockNo(14), block);
  CHECK(pointers(block, sizeof(MetaHeader))[6] == (tree.first_data() + (509 * 3 + 6)).value);
  CHECK(pointers(block, sizeof(MetaHeader))[7] == 0);
}
