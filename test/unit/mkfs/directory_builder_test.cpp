#include "tools/mkfs/directory_builder.h"

#include <map>
#include <set>

#include <dirent.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include "ondisk/checksum.h"
#include "ondisk/dirent_walker.h"
#include "ondisk/validate.h"
#include "test/support/catch.h"
#include "tools/mkfs/file_tree.h"

using namespace corral;
using namespace corral::mkfs;
using namespace corral::ondisk;

namespace {

constexpr BlockNo kSelf{1000};

Dinode dinode_of_directory() {
  Dinode dinode{};
  dinode.header.set(MetaType::dinode);
  dinode.num = {.formal_ino = 5, .addr = kSelf.value};
  dinode.mode = S_IFDIR | 0755;
  return dinode;
}

struct Made {
  Geometry geometry;
  std::vector<BlockBytes> blocks;
  const BlockBytes& at(std::uint64_t address) const { return blocks.at(address - kSelf.value); }
  const Dinode& dinode() const { return view<Dinode>(blocks[0]); }
};

/// `count` files "file0".. with formal inode numbers 100.. .
Made make(std::uint32_t block_size, std::size_t count) {
  const Geometry geometry(block_size);
  DirectoryBuilder builder(geometry);
  std::vector<InodeIdentity> inodes;
  for (std::size_t i = 0; i < count; ++i) {
    builder.add(fmt::format("file{}", i), DT_REG);
    inodes.push_back({.formal_ino = 100 + i, .addr = 5000 + i});
  }
  const std::uint64_t blocks = builder.blocks();
  Made made{geometry, builder.build(dinode_of_directory(), {.formal_ino = 4, .addr = 999}, inodes)};
  CHECK(made.blocks.size() == blocks);
  CHECK(made.dinode().blocks == blocks);
  CHECK(made.dinode().entries == count + 2);
  REQUIRE(check_dinode(made.blocks[0], kSelf, geometry));
  return made;
}

void collect(const BlockBytes& block, std::map<std::string, std::uint64_t>& found) {
  DirentWalker walker(block, kSelf);
  for (;;) {
    auto dirent = walker.next();
    if (!dirent) FAIL(dirent.error().message());
    if (*dirent == nullptr) return;
    if (is_unused(**dirent)) continue;
    CHECK((*dirent)->hash == name_hash(name_of(**dirent)));
    found.emplace(name_of(**dirent), (*dirent)->inum.formal_ino);
  }
}

/// The hash table's pointers, wherever they are.
std::vector<be64> table_of(const Made& made) {
  const std::size_t bytes = made.dinode().size;
  BlockBytes table;
  if (made.dinode().height == 0) {
    table.assign(made.blocks[0].begin() + sizeof(Dinode), made.blocks[0].end());
  } else {
    const std::uint64_t data_blocks = (bytes - 1) / made.geometry.directory_data_bytes() + 1;
    const FileTree tree(made.geometry, kSelf, data_blocks);
    for (std::uint64_t i = 0; i < data_blocks; ++i) {
      const BlockBytes& block = made.at(tree.first_data().value + i);
      REQUIRE(check_meta_header(block, kSelf, MetaType::journaled_data));
      table.insert(table.end(), block.begin() + sizeof(MetaHeader), block.end());
    }
  }
  auto all = pointers(table, 0);
  return {all.begin(), all.begin() + static_cast<std::ptrdiff_t>(bytes / 8)};
}

}  // namespace

TEST_CASE("a small directory lies within its dinode") {
  Made made = make(4096, 3);
  CHECK(made.blocks.size() == 1);
  CHECK(made.dinode().payload_format == kFormatDirent);
  CHECK(made.dinode().size == 4096 - sizeof(Dinode));
  std::map<std::string, std::uint64_t> found;
  collect(made.blocks[0], found);
  CHECK(found ==
        std::map<std::string, std::uint64_t>{{".", 5}, {"..", 4}, {"file0", 100}, {"file1", 101}, {"file2", 102}});
}

TEST_CASE("a large directory is hashed, and every name is where its hash says") {
  for (std::uint32_t block_size : {512u, 1024u, 4096u}) {
    for (std::size_t count : {100u, 700u, 3000u}) {
      Made made = make(block_size, count);
      REQUIRE((made.dinode().flags & kDinodeHashedDirectory) != 0);
      CHECK(made.dinode().payload_format == 0);
      const std::uint32_t depth = made.dinode().depth;
      const auto table = table_of(made);
      REQUIRE(table.size() == 1u << depth);
      std::map<std::string, std::uint64_t> found;
      std::set<std::uint64_t> leaves;
      for (std::size_t slot = 0; slot < table.size(); ++slot) {
        const BlockBytes& block = made.at(table[slot]);
        REQUIRE(check_leaf(block, BlockNo(table[slot]), depth));
        std::map<std::string, std::uint64_t> here;
        collect(block, here);
        const auto& leaf = view<Leaf>(block);
        CHECK(leaf.entries == here.size());
        CHECK(leaf.inode == kSelf.value);
        const std::uint32_t shift = 32u - leaf.depth;
        for (const auto& [name, inode] : here)
          REQUIRE((std::uint64_t{name_hash(name)} >> shift) == (slot >> (depth - leaf.depth)));
        leaves.insert(table[slot]);
        found.merge(here);
      }
      CHECK(found.size() == count + 2);
      CHECK(found.at("file99") == 199);
      CHECK(leaves.size() < made.blocks.size());
    }
  }
}
