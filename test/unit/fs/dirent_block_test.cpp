#include "fs/dirent_block.h"

#include <cstring>
#include <map>
#include <string>
#include <vector>

#include <dirent.h>

#include "ondisk/validate.h"
#include "test/support/catch.h"
#include "test/support/directory_names.h"

using namespace corral;
using namespace corral::ondisk;
using corral::test::name_with_hash;
using corral::test::random_name;

namespace {

using Bytes = std::vector<std::byte>;
using Model = std::map<std::string, DirectoryEntry>;
constexpr BlockNo kAddress{77};
constexpr BlockNo kDirectory{70};

Bytes new_leaf(std::size_t block_size, std::uint32_t depth = 3) {
  Bytes block(block_size, std::byte{0x5a});
  initialize_leaf(block, kDirectory, depth, 1);
  return block;
}

Bytes new_stuffed(std::size_t block_size) {
  Bytes block(block_size);
  view<MetaHeader>(std::span(block)).set(MetaType::dinode);
  initialize_stuffed_dirents(block);
  return block;
}

Model contents(std::span<const std::byte> block) {
  Model model;
  auto walked = for_each_dirent(block, kAddress, [&](const Dirent& dirent) {
    CHECK(dirent.hash == name_hash(name_of(dirent)));
    CHECK(model.emplace(name_of(dirent), entry_of(dirent)).second);
  });
  CHECK(walked.has_value());
  return model;
}

DirectoryEntry some_entry(Random& random) {
  return {BlockNo(random.between(1, 1u << 30)), random.between(1, 1u << 30),
          static_cast<std::uint8_t>(random.below(16)), static_cast<std::uint16_t>(random.below(2))};
}

std::uint32_t bytes_of(const Model& model) {
  std::uint32_t bytes = 0;
  for (const auto& [name, entry] : model)
    bytes += dirent_bytes(name.size());
  return bytes;
}

void check_equal(std::span<const std::byte> block, const Model& model) {
  CHECK(contents(block) == model);
  if (view<MetaHeader>(block).meta_type() != MetaType::leaf) return;
  auto checked = check_leaf_block(block, kAddress, Geometry(static_cast<std::uint32_t>(block.size())));
  CHECK((checked ? "" : checked.error().message()) == std::string());
  CHECK(view<Leaf>(block).entries == model.size());
}

void random_changes(Bytes block, std::uint64_t seed, std::size_t longest_name) {
  INFO("seed " << seed << ", block " << block.size() << ", names up to " << longest_name);
  Random random(seed);
  Model model;
  for (int step = 0; step < 600; ++step) {
    const std::string name = !model.empty() && random.chance(1, 2)
                                 ? std::next(model.begin(), static_cast<int>(random.below(model.size())))->first
                                 : random_name(random, random.between(1, longest_name));
    const HashedName hashed(name);
    auto scan = scan_dirents(block, kAddress, hashed);
    REQUIRE(scan.has_value());
    CHECK((scan->found != 0) == model.contains(name));
    CHECK(scan->entries == model.size());
    CHECK(scan->used_bytes == bytes_of(model));
    CHECK(scan->has_room == (bytes_of(model) + dirent_bytes(name.size()) <= dirent_capacity_bytes(block)));
    auto found = find_dirent(block, kAddress, hashed);
    REQUIRE(found.has_value());
    CHECK((*found != nullptr) == model.contains(name));
    if (!model.contains(name)) {
      if (!scan->has_room) continue;
      const DirectoryEntry entry = some_entry(random);
      insert_dirent(block, hashed, entry);
      model[name] = entry;
    } else if (random.chance(1, 4)) {
      CHECK(entry_of(**found) == model[name]);
      model[name] = some_entry(random);
      replace_dirent(block, hashed, model[name]);
    } else {
      remove_dirent(block, hashed);
      model.erase(name);
    }
    check_equal(block, model);
  }
}

std::string error_of(const Bytes& block) {
  auto checked = check_leaf_block(block, kAddress, Geometry(static_cast<std::uint32_t>(block.size())));
  return checked ? std::string() : checked.error().message();
}

}  // namespace

TEST_CASE("dirents come and go as in a map") {
  for (std::size_t block_size : {512u, 1024u, 4096u}) {
    for (std::size_t longest : {12u, 60u, 255u}) {
      random_changes(new_leaf(block_size), block_size + longest, longest);
      random_changes(new_stuffed(block_size), block_size + longest + 1, longest);
    }
  }
}

TEST_CASE("a full block takes a name as soon as its gaps together are wide enough") {
  Bytes block = new_leaf(512);
  Random random(3);
  Model model;
  // 408 bytes for dirents: eight of 48 bytes leave 24 at the end.
  for (const char* name : {"a", "b", "c", "d", "e", "f", "g", "h"}) {
    model[name] = some_entry(random);
    insert_dirent(block, HashedName(name), model[name]);
  }
  const std::string wide(60, 'w');  // takes 104 bytes
  CHECK_FALSE(scan_dirents(block, kAddress, HashedName(wide))->has_room);
  for (const char* name : {"b", "g"}) {
    remove_dirent(block, HashedName(name));
    model.erase(name);
  }
  // Two gaps of 48 bytes and the 24 at the end, none of them wide enough alone.
  REQUIRE(scan_dirents(block, kAddress, HashedName(wide))->has_room);
  model[wide] = some_entry(random);
  insert_dirent(block, HashedName(wide), model[wide]);
  check_equal(block, model);
}

TEST_CASE("the first dirent of a block stays as an unused one when it is removed") {
  Bytes block = new_leaf(512);
  insert_dirent(block, HashedName("first"), {BlockNo(9), 9, DT_REG});
  insert_dirent(block, HashedName("second"), {BlockNo(10), 10, DT_REG});
  remove_dirent(block, HashedName("first"));
  CHECK(is_unused(view<Dirent>(block, sizeof(Leaf))));
  CHECK(view<Dirent>(block, sizeof(Leaf)).record_length == 48);
  remove_dirent(block, HashedName("second"));
  CHECK(view<Dirent>(block, sizeof(Leaf)).record_length == 408);
  check_equal(block, {});
}

TEST_CASE("a leaf splits by hash") {
  for (std::size_t block_size : {512u, 1024u, 4096u}) {
    Random random(block_size);
    for (int round = 0; round < 50; ++round) {
      Bytes upper = new_leaf(block_size, 0);
      Model lower_model;
      Model upper_model;
      const std::uint32_t divider = round == 0   ? 0
                                    : round == 1 ? 0xffffffffu
                                                 : static_cast<std::uint32_t>(random.next());
      for (;;) {
        const std::string name = random_name(random, random.between(1, round % 2 == 0 ? 20 : 200));
        const HashedName hashed(name);
        auto scan = scan_dirents(upper, kAddress, hashed);
        if (!scan->has_room) break;
        if (scan->found != 0) continue;
        auto& model = hashed.hash < divider ? lower_model : upper_model;
        model[name] = some_entry(random);
        insert_dirent(upper, hashed, model[name]);
      }
      Bytes lower = new_leaf(block_size, 1);
      move_lower_dirents(upper, lower, divider);
      check_equal(upper, upper_model);
      check_equal(lower, lower_model);
    }
  }
}

TEST_CASE("a stuffed directory's dirents move to a leaf") {
  Bytes dinode = new_stuffed(1024);
  Model model;
  Random random(8);
  for (int i = 0; i < 14; ++i) {
    const std::string name = random_name(random, 8);
    model[name] = some_entry(random);
    insert_dirent(dinode, HashedName(name), model[name]);
  }
  check_equal(dinode, model);
  Bytes leaf = new_leaf(1024);
  copy_dirents_to_leaf(leaf, dinode);
  check_equal(leaf, model);
  CHECK(view<Leaf>(leaf).inode == kDirectory.value);
}

TEST_CASE("names of equal hash lie side by side in a block") {
  Bytes block = new_leaf(1024);
  Random random(1);
  Model model;
  for (int i = 0; i < 10; ++i) {
    const std::string name = name_with_hash(random, 9, 0xdeadbeef);
    model[name] = some_entry(random);
    insert_dirent(block, HashedName(name), model[name]);
  }
  check_equal(block, model);
  remove_dirent(block, HashedName(model.begin()->first));
  model.erase(model.begin());
  check_equal(block, model);
}

TEST_CASE("damaged leaves are told with block and byte") {
  Bytes sound = new_leaf(512);
  insert_dirent(sound, HashedName("one"), {BlockNo(9), 9, DT_REG});
  insert_dirent(sound, HashedName("two"), {BlockNo(10), 10, DT_REG});
  CHECK(error_of(sound).empty());
  Bytes block = sound;
  SECTION("hash") {
    view<Dirent>(std::span(block), 152).hash = 1u;
    CHECK(error_of(block) == "directory leaf 77: dirent at byte 152 has hash 0x00000001, but that of its name is " +
                                 fmt::format("{:#010x}", name_hash("two")));
  }
  SECTION("count of entries") {
    view<Leaf>(std::span(block)).entries = std::uint16_t{3};
    CHECK(error_of(block) == "directory leaf 77: says that it has 3 entries, but there are 2");
  }
  SECTION("record length") {
    view<Dirent>(std::span(block), 152).record_length = std::uint16_t{8};
    CHECK(error_of(block).find("dirent at byte 152 has length 8") != std::string::npos);
  }
  SECTION("type") {
    view<MetaHeader>(std::span(block)).set(MetaType::indirect);
    CHECK(error_of(block).find("expected 6") != std::string::npos);
  }
}

TEST_CASE("scans of any bytes end with an answer") {
  Random random(11);
  for (int round = 0; round < 2000; ++round) {
    Bytes block = round % 2 == 0 ? new_leaf(512) : new_stuffed(512);
    for (int i = 0; i < 5; ++i)
      if (const std::string name = random_name(random, 10); scan_dirents(block, kAddress, HashedName(name))->has_room)
        insert_dirent(block, HashedName(name), some_entry(random));
    for (std::uint64_t i = random.between(1, 8); i > 0; --i)
      block[random.between(sizeof(MetaHeader), block.size() - 1)] = static_cast<std::byte>(random.next());
    auto scan = scan_dirents(block, kAddress, HashedName("anything"));
    auto found = find_dirent(block, kAddress, HashedName("anything"));
    if (!scan) CHECK(scan.error().kind() == ErrorKind::corrupt);
    CHECK((!scan || found));
  }
}
