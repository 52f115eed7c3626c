#include "ondisk/validate.h"

#include <limits>

#include "test/unit/ondisk/blocks.h"

using namespace corral;
using namespace corral::ondisk;
using namespace corral::ondisk::test;

namespace {

const Geometry k4096(4096);
constexpr std::uint64_t kVolumeBlocks = 100'000;
constexpr BlockNo kPlace{1000};

Block make_superblock() {
  Block block = make_block(MetaType::superblock, 512);
  auto& superblock = view<Superblock>(block);
  superblock.fs_format = 1802;
  superblock.multihost_format = kMultihostFormat;
  superblock.block_size = 4096;
  superblock.block_size_shift = 12;
  superblock.master_dir = {.formal_ino = 2, .addr = 23};
  superblock.root_dir = {.formal_ino = 1, .addr = 22};
  std::strcpy(superblock.lock_protocol.data(), "lock_corral");
  std::strcpy(superblock.lock_table.data(), "my-cluster:storage");
  superblock.uuid[15] = 9;
  return block;
}

Result<SuperblockInfo> parse(const Block& block) {
  return parse_superblock(block, kVolumeBlocks * 4096);
}

template <class Change>
Block damaged(Block block, Change change) {
  change(block);
  return block;
}

template <class Change>
Block damaged_superblock(Change change) {
  return damaged(make_superblock(), [&](Block& block) { change(view<Superblock>(block)); });
}

template <class Change>
Result<> check_damaged_dinode(std::uint32_t mode, std::uint64_t size, Change change) {
  Block block = damaged(make_dinode(1000, mode, size), [&](Block& bytes) { change(view<Dinode>(bytes)); });
  return check_dinode(block, kPlace, k4096);
}

ResourceGroupIndexEntry make_rindex_entry() {
  ResourceGroupIndexEntry entry{};
  entry.addr = 17;
  entry.length = 2;
  entry.data0 = 19;
  entry.data = 4 * 4000;
  entry.bitmap_bytes = 4000;
  return entry;
}

Block make_rgrp() {
  Block block = make_block(MetaType::resource_group);
  auto& group = view<ResourceGroup>(block);
  group.free = 15'000;
  group.dinodes = 1'000;
  group.data0 = 19;
  group.data = 16'000;
  group.bitmap_bytes = 4000;
  group.crc = rgrp_crc(group);
  return block;
}

Block make_log_header(std::uint32_t place) {
  Block block = make_block(MetaType::log_header);
  auto& header = view<LogHeader>(block);
  header.block_number = place;
  header.sequence = 5;
  header.tail = place;
  header.hash = log_header_hash(header);
  header.crc = log_header_crc(block);
  return block;
}

Block make_descriptor(LogDescriptorType type, std::uint32_t length, std::uint32_t entries) {
  Block block = make_block(MetaType::log_descriptor);
  auto& descriptor = view<LogDescriptor>(block);
  descriptor.type = std::to_underlying(type);
  descriptor.length = length;
  descriptor.data1 = entries;
  return block;
}

}  // namespace

TEST_CASE("a metadata block has the magic number and the expected type") {
  Block block = make_block(MetaType::leaf);
  CHECK(check_meta_header(block, kPlace, MetaType::leaf));
  CHECK(has_meta_type(block, MetaType::leaf));
  CHECK(!has_meta_type(block, MetaType::dinode));
  check_corrupt(check_meta_header(block, kPlace, MetaType::dinode),
                "block 1000: metadata type 6 (directory leaf), expected 4 (dinode)");
  view<MetaHeader>(block).type = 99;
  check_corrupt(check_meta_header(block, kPlace, MetaType::dinode), "type 99 (unknown)");
  view<MetaHeader>(block).magic = 1;
  check_corrupt(check_meta_header(block, kPlace, MetaType::leaf), "magic 0x00000001, expected 0x01161970");
}

TEST_CASE("pointers lie behind the superblock and within the volume") {
  CHECK(check_pointer(BlockNo(17), kPlace, "di_eattr", k4096, kVolumeBlocks));
  CHECK(check_pointer(BlockNo(kVolumeBlocks - 1), kPlace, "di_eattr", k4096, kVolumeBlocks));
  check_corrupt(check_pointer(BlockNo(16), kPlace, "di_eattr", k4096, kVolumeBlocks),
                "block 1000: di_eattr points to block 16, expected one from 17 to 99999");
  check_corrupt(check_pointer(BlockNo(kVolumeBlocks), kPlace, "di_eattr", k4096, kVolumeBlocks), "100000");
}

TEST_CASE("a sound superblock is decoded") {
  auto info = parse(make_superblock());
  REQUIRE(info);
  CHECK(info->geometry.block_size() == 4096);
  CHECK(info->fs_format == 1802);
  CHECK(info->master_dir.addr == 23);
  CHECK(info->root_dir.addr == 22);
  CHECK(info->lock_protocol == "lock_corral");
  CHECK(info->lock_table == "my-cluster:storage");
  CHECK(info->uuid[15] == 9);
}

TEST_CASE("what is no superblock, or one of an unknown format, is EINVAL and not damage") {
  auto check_unknown = [](const Block& block, std::string_view text) {
    auto info = parse(block);
    REQUIRE(!info);
    CHECK(info.error().code() == EINVAL);
    CHECK(info.error().kind() == ErrorKind::expected);
    CHECK(info.error().message().find(text) != std::string::npos);
  };
  check_unknown(Block(512), "not a GFS2 volume");
  check_unknown(damaged_superblock([](Superblock& s) { s.header.type = 4; }), "not a GFS2 volume");
  check_unknown(damaged_superblock([](Superblock& s) { s.fs_format = 1800; }), "format 1800");
  check_unknown(damaged_superblock([](Superblock& s) { s.fs_format = 1803; }), "format 1803");
  check_unknown(damaged_superblock([](Superblock& s) { s.multihost_format = 1; }), "multihost 1");
}

TEST_CASE("damaged superblocks are refused") {
  for (std::uint32_t size : {0u, 256u, 4095u, 131072u})
    check_corrupt(parse(damaged_superblock([&](Superblock& s) { s.block_size = size; })), "block size");
  check_corrupt(parse(damaged_superblock([](Superblock& s) { s.block_size_shift = 11; })), "shift 11, expected 12");
  check_corrupt(parse(damaged_superblock([](Superblock& s) { s.root_dir.addr = 16; })),
                "root directory is at block 16");
  check_corrupt(parse(damaged_superblock([](Superblock& s) { s.master_dir.addr = kVolumeBlocks; })), "master");
  check_corrupt(parse(damaged_superblock([](Superblock& s) { s.master_dir.formal_ino = 0; })), "master");
  check_corrupt(parse(damaged_superblock([](Superblock& s) { s.master_dir.addr = 22; })), "both at block 22");
  check_corrupt(parse(damaged_superblock([](Superblock& s) { s.lock_protocol.fill('a'); })), "lock protocol");
  check_corrupt(parse(damaged_superblock([](Superblock& s) { s.lock_table[3] = '\n'; })), "lock table");
}

TEST_CASE("sound inodes of every type pass") {
  auto accepts = [](const Result<>& result) {
    if (!result) FAIL(result.error().message());
  };
  for (std::uint32_t kind : {S_IFCHR, S_IFBLK, S_IFIFO, S_IFSOCK})
    accepts(check_damaged_dinode(kind | 0600, 0, [](Dinode&) {}));
  accepts(check_damaged_dinode(S_IFLNK | 0777, 4096 - 232, [](Dinode&) {}));
  accepts(check_damaged_dinode(S_IFREG | 0644, 4096 - 232, [](Dinode&) {}));
  // A file that was extended keeps its low tree: the rest is a hole.
  accepts(check_damaged_dinode(S_IFREG | 0644, std::uint64_t{1} << 60, [](Dinode& d) { d.height = 1; }));
  accepts(check_damaged_dinode(S_IFREG | 0644, 0, [](Dinode& d) { d.height = 6; }));
  accepts(check_damaged_dinode(S_IFDIR | 0755, 4096 - 232, [](Dinode&) {}));
  accepts(check_damaged_dinode(S_IFDIR | 0755, 2048, [](Dinode& d) {
    d.flags = kDinodeHashedDirectory;
    d.depth = 8;
  }));
  accepts(check_damaged_dinode(S_IFDIR | 0755, 1048576, [](Dinode& d) {
    d.flags = kDinodeHashedDirectory;
    d.depth = 17;
    d.height = 1;
  }));
}

TEST_CASE("damaged inodes are refused") {
  check_corrupt(check_dinode(make_block(MetaType::leaf), kPlace, k4096), "expected 4 (dinode)");
  check_corrupt(check_damaged_dinode(S_IFREG, 0, [](Dinode& d) { d.num.addr = 1001; }), "its own address says 1001");
  check_corrupt(check_damaged_dinode(S_IFREG, 0, [](Dinode& d) { d.num.formal_ino = 0; }), "formal inode number");
  check_corrupt(check_damaged_dinode(0, 0, [](Dinode&) {}), "mode 0 is no type of file");
  check_corrupt(check_damaged_dinode(0150644, 0, [](Dinode&) {}), "mode 0150644");
  check_corrupt(check_damaged_dinode(S_IFREG, 0, [](Dinode& d) { d.height = 7; }), "height 7, expected at most 6");
  check_corrupt(check_damaged_dinode(S_IFLNK, 5, [](Dinode& d) { d.height = 1; }), "height 1, expected at most 0");
  check_corrupt(check_damaged_dinode(S_IFIFO, 0, [](Dinode& d) { d.height = 1; }), "height 1");
  check_corrupt(check_damaged_dinode(S_IFREG, 4096 - 231, [](Dinode&) {}), "expected at most 3864");
  check_corrupt(check_damaged_dinode(S_IFLNK, 0, [](Dinode&) {}), "symbolic link of size 0");
  check_corrupt(check_damaged_dinode(S_IFLNK, 256, [](Dinode& d) { d.entries = 4000; }), "without attributes");
  check_corrupt(check_damaged_dinode(S_IFREG, std::uint64_t{1} << 63, [](Dinode& d) { d.height = 1; }), "greatest");
  check_corrupt(check_damaged_dinode(S_IFREG, 0, [](Dinode& d) { d.depth = 18; }), "depth 18, expected at most 17");
}

TEST_CASE("damaged directories are refused") {
  auto hashed = [](std::uint32_t depth, std::uint64_t size, std::uint16_t height) {
    return check_damaged_dinode(S_IFDIR | 0755, size, [&](Dinode& d) {
      d.flags = kDinodeHashedDirectory;
      d.depth = static_cast<std::uint16_t>(depth);
      d.height = height;
    });
  };
  check_corrupt(check_damaged_dinode(S_IFDIR, 0, [](Dinode& d) { d.height = 1; }), "not hashed");
  check_corrupt(hashed(7, 1024, 0), "hash depth 7, expected 8 to 17");
  check_corrupt(hashed(18, 2048, 0), "hash depth 18");
  check_corrupt(hashed(8, 4096, 1), "size 4096 of a directory of hash depth 8, expected 2048");
  check_corrupt(hashed(9, 4096, 0), "within the inode");

  // 1 MiB of table at 512 bytes a block is 2149 blocks: two levels address 35 * 61.
  Block block = make_dinode(1000, S_IFDIR, 1048576, 512);
  auto& dinode = view<Dinode>(block);
  dinode.flags = kDinodeHashedDirectory;
  dinode.depth = 17;
  dinode.height = 2;
  check_corrupt(check_dinode(block, kPlace, Geometry(512)), "holds 2135 blocks, but the hash table has 2149");
  dinode.height = 3;
  CHECK(check_dinode(block, kPlace, Geometry(512)));
}

TEST_CASE("resource group index entries fit the volume and themselves") {
  auto check = [](auto change) {
    ResourceGroupIndexEntry entry = make_rindex_entry();
    change(entry);
    return check_rindex_entry(entry, 3, k4096, kVolumeBlocks);
  };
  using Entry = ResourceGroupIndexEntry;
  CHECK(check([](Entry&) {}));
  // The first block holds 3968 bytes of bitmap, each further one 4072.
  CHECK(check([](Entry& e) { e.length = 1, e.bitmap_bytes = 3968, e.data = 4 * 3968; }));
  CHECK(check([](Entry& e) { e.bitmap_bytes = 3968 + 4072, e.data = 4 * (3968 + 4072); }));
  check_corrupt(check([](Entry& e) { e.bitmap_bytes = 3968 + 4073, e.data = 4 * (3968 + 4073); }), "2 header blocks");
  check_corrupt(check([](Entry& e) { e.length = 1; }), "rindex entry 3 (block 17): 1 header blocks");
  check_corrupt(check([](Entry& e) { e.length = 3; }), "3 header blocks");
  check_corrupt(check([](Entry& e) { e.length = 0; }), "0 header blocks");
  check_corrupt(check([](Entry& e) { e.addr = 16; }), "resource group at block 16");
  check_corrupt(check([](Entry& e) { e.addr = kVolumeBlocks; }), "resource group at block 100000");
  check_corrupt(check([](Entry& e) { e.data = 15'999; }), "15999 data blocks and 4000 bitmap bytes");
  check_corrupt(check([](Entry& e) { e.data = 0, e.bitmap_bytes = 0; }), "0 data blocks");
  check_corrupt(check([](Entry& e) { e.data0 = 18; }), "from block 18, expected within 19");
  check_corrupt(check([](Entry& e) { e.data0 = kVolumeBlocks - 15'999; }), "data blocks from block 84001");
  CHECK(check([](Entry& e) { e.data0 = kVolumeBlocks - 16'000; }));
  check_corrupt(check([](Entry& e) { e.data0 = std::numeric_limits<std::uint64_t>::max(); }), "data blocks from");
  check_corrupt(check([](Entry& e) { e.length = 0xFFFFFFFF; }), "header blocks");
}

TEST_CASE("resource group headers match their index entry") {
  const auto entry = make_rindex_entry();
  auto check = [&](auto change, bool sum = true) {
    Block block = make_rgrp();
    auto& group = view<ResourceGroup>(block);
    change(group);
    if (sum) group.crc = rgrp_crc(group);
    return check_rgrp(block, entry);
  };
  CHECK(check([](ResourceGroup&) {}));
  CHECK(check([](ResourceGroup& g) { g.crc = 0; }, false));
  CHECK(check([](ResourceGroup& g) { g.data0 = 0, g.data = 0; }));
  check_corrupt(check([](ResourceGroup& g) { g.free = 1; }, false), "resource group 17: crc");
  check_corrupt(check([](ResourceGroup& g) { g.header.type = 3; }), "expected 2 (resource group)");
  check_corrupt(check([](ResourceGroup& g) { g.free = 16'001; }), "16001 free blocks");
  check_corrupt(check([](ResourceGroup& g) { g.dinodes = 1'001; }), "1001 dinodes of 16000 blocks");
  check_corrupt(check([](ResourceGroup& g) { g.data0 = 20; }), "from block 20, but 16000 from 19 in the rindex");
  check_corrupt(check([](ResourceGroup& g) { g.data = 15'996; }), "15996 data blocks");
}

TEST_CASE("leaf headers fit their block and their directory") {
  auto check = [](auto change) {
    Block block = make_block(MetaType::leaf);
    auto& leaf = view<Leaf>(block);
    leaf.depth = 9;
    leaf.entries = 10;
    change(leaf);
    return check_leaf(block, kPlace, 9);
  };
  CHECK(check([](Leaf&) {}));
  CHECK(check([](Leaf& l) { l.entries = 83; }));
  check_corrupt(check([](Leaf& l) { l.header.type = 4; }), "expected 6");
  check_corrupt(check([](Leaf& l) { l.depth = 10; }), "depth 10, expected at most the directory's 9");
  check_corrupt(check([](Leaf& l) { l.entries = 84; }), "84 entries, but only 83 fit");
  check_corrupt(check([](Leaf& l) { l.next = 1000; }), "its next leaf is itself");
}

TEST_CASE("log headers are at their place, with the right sums") {
  Block block = make_log_header(77);
  CHECK(check_log_header(block, FileBlock(77)));
  check_corrupt(check_log_header(block, FileBlock(78)), "says that it is block 77");
  check_corrupt(check_log_header(make_block(MetaType::log_block), FileBlock(77)), "not a log header");
  CHECK(check_log_tail(view<LogHeader>(block), 78));
  check_corrupt(check_log_tail(view<LogHeader>(block), 77), "tail 77, expected less than 77");

  Block other = block;
  view<LogHeader>(other).sequence = 6;
  check_corrupt(check_log_header(other, FileBlock(77)), "hash");
  other = block;
  other.back() = std::byte{1};
  check_corrupt(check_log_header(other, FileBlock(77)), "crc");
  view<LogHeader>(other).crc = 0;
  CHECK(check_log_header(other, FileBlock(77)));
}

TEST_CASE("log descriptors announce what fits") {
  using Type = LogDescriptorType;
  auto check = [](Type type, std::uint32_t length, std::uint32_t entries) {
    return check_log_descriptor(make_descriptor(type, length, entries), FileBlock(5), 2048);
  };
  CHECK(check(Type::metadata, 504, 503));
  check_corrupt(check(Type::metadata, 600, 504), "504 entries of type 300 in 600 blocks, expected at most 503");
  check_corrupt(check(Type::metadata, 10, 10), "expected at most 9");
  CHECK(check(Type::journaled_data, 252, 251));
  check_corrupt(check(Type::journaled_data, 300, 252), "expected at most 251");
  CHECK(check(Type::revoke, 2, 503 + 509));
  check_corrupt(check(Type::revoke, 2, 503 + 510), "expected at most 1012");
  check_corrupt(check(Type::metadata, 0, 0), "length 0");
  check_corrupt(check(Type::metadata, 2048, 1), "length 2048, expected 1 to 2047");
  CHECK(check(static_cast<Type>(999), 5, 0xFFFFFFFF));
  check_corrupt(check_log_descriptor(make_block(MetaType::log_header), FileBlock(5), 2048), "not a log descriptor");
}

TEST_CASE("a quota change block gives all its records") {
  auto records = quota_changes(make_block(MetaType::quota_change), kPlace);
  REQUIRE(records);
  CHECK(records->size() == k4096.quota_changes_per_block());
  check_corrupt(quota_changes(make_block(MetaType::ea_data), kPlace), "expected 14 (quota change)");
}

TEST_CASE("names that may stand in a directory") {
  CHECK(is_valid_name("a"));
  CHECK(is_valid_name(std::string(255, '\xff')));
  CHECK(!is_valid_name(""));
  CHECK(!is_valid_name(std::string(256, 'a')));
  CHECK(!is_valid_name("a/b"));
  CHECK(!is_valid_name(std::string_view("a\0b", 3)));
}
