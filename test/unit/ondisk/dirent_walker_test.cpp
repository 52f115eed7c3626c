#include "ondisk/dirent_walker.h"

#include "test/unit/ondisk/blocks.h"

using namespace corral;
using namespace corral::ondisk;
using namespace corral::ondisk::test;

namespace {

constexpr BlockNo kPlace{1000};

/// Names and "-" for unused dirents, or the error.
Result<std::vector<std::string>> names_in(const Block& block) {
  std::vector<std::string> names;
  DirentWalker walker(block, kPlace);
  for (;;) {
    TRY(const Dirent* dirent, walker.next());
    if (dirent == nullptr) return names;
    names.push_back(is_unused(*dirent) ? "-" : std::string(name_of(*dirent)));
  }
}

/// A leaf of 512 bytes: "one" at 104, "two" at 152 to the block's end.
Block make_leaf() {
  Block block = make_block(MetaType::leaf, 512);
  put_dirent(block, 104, 48, 5, "one");
  put_dirent(block, 152, 360, 6, "two");
  return block;
}

}  // namespace

TEST_CASE("the dirents of a leaf and of a stuffed directory are given in order") {
  CHECK(names_in(make_leaf()).value() == std::vector<std::string>{"one", "two"});
  Block dinode = make_block(MetaType::dinode, 512);
  put_dirent(dinode, 232, 280, 9, std::string(240, 'x'));
  CHECK(names_in(dinode).value() == std::vector<std::string>{std::string(240, 'x')});
}

TEST_CASE("the walker tells where a dirent and the one before it are") {
  Block block = make_leaf();
  DirentWalker walker(block, kPlace);
  REQUIRE(walker.next().value() != nullptr);
  CHECK(walker.offset_bytes() == 104);
  CHECK(walker.previous_offset_bytes() == 0);
  REQUIRE(walker.next().value() != nullptr);
  CHECK(walker.offset_bytes() == 152);
  CHECK(walker.previous_offset_bytes() == 104);
  CHECK(walker.next().value() == nullptr);
  CHECK(walker.next().value() == nullptr);
}

TEST_CASE("only the first dirent may be unused") {
  Block block = make_leaf();
  put_dirent(block, 104, 48, 0, "");
  CHECK(names_in(block).value() == std::vector<std::string>{"-", "two"});
  view<Dirent>(block, 152).inum.formal_ino = 0;
  check_corrupt(names_in(block), "unused dirent at byte 152, expected only at byte 104");
}

TEST_CASE("dirents with a bad length are refused") {
  for (int length : {0, 8, 32, 44, 47, 416, 65528}) {
    Block block = make_leaf();
    view<Dirent>(block, 104).record_length = static_cast<std::uint16_t>(length);
    check_corrupt(names_in(block), "directory block 1000: dirent at byte 104 has length");
  }
  Block block = make_leaf();
  view<Dirent>(block, 152).record_length = 336;
  check_corrupt(names_in(block), "24 bytes left at byte 488, too few for a dirent");
}

TEST_CASE("dirents with a bad name length are refused") {
  Block block = make_leaf();
  view<Dirent>(block, 104).name_length = 9;
  check_corrupt(names_in(block), "name of 9 bytes, expected 1 to 8");
  view<Dirent>(block, 104).name_length = 0;
  check_corrupt(names_in(block), "name of 0 bytes");
  block = make_leaf();
  view<Dirent>(block, 152).name_length = 256;
  check_corrupt(names_in(block), "name of 256 bytes, expected 1 to 255");
}

TEST_CASE("a walk is over after an error") {
  Block block = make_leaf();
  view<Dirent>(block, 104).record_length = 0;
  DirentWalker walker(block, kPlace);
  CHECK(!walker.next());
  CHECK(walker.next().value() == nullptr);
}

TEST_CASE("a dirent that is removed is reached over, the first one stays as a place holder") {
  Block block = make_leaf();
  remove_dirent(block, 104, 152);
  CHECK(names_in(block).value() == std::vector<std::string>{"one"});
  CHECK(view<Dirent>(block, 104).record_length == 408);
  block = make_leaf();
  remove_dirent(block, 0, 104);
  CHECK(names_in(block).value() == std::vector<std::string>{"-", "two"});
  remove_dirent(block, 104, 152);
  CHECK(names_in(block).value() == std::vector<std::string>{"-"});
}
