#include "fs/attribute_block.h"

#include "base/random.h"
#include "test/support/catch.h"

namespace corral {
namespace {

using namespace ondisk;

StoredAttribute inside(std::string name, std::size_t value_bytes, EaType type = EaType::user) {
  StoredAttribute attribute{.type = type, .name = std::move(name), .value_bytes = 0, .value = {}, .blocks = {}};
  attribute.value.assign(value_bytes, std::byte{0x5a});
  attribute.value_bytes = static_cast<std::uint32_t>(value_bytes);
  return attribute;
}

StoredAttribute apart(std::string name, std::size_t value_bytes, const Geometry& geometry) {
  StoredAttribute attribute{.type = EaType::trusted,
                            .name = std::move(name),
                            .value_bytes = static_cast<std::uint32_t>(value_bytes),
                            .value = {},
                            .blocks = {}};
  for (std::uint32_t i = 0; i < ValuePlacement::choose(geometry, attribute.name.size(), value_bytes).blocks; ++i)
    attribute.blocks.emplace_back(1000 + i);
  return attribute;
}

std::vector<std::byte> block_with(const Geometry& geometry, std::span<const StoredAttribute> attributes) {
  std::vector<std::byte> block(geometry.block_size(), std::byte{0xff});
  view<MetaHeader>(std::span(block)) = MetaHeader{};
  view<MetaHeader>(std::span(block)).set(MetaType::ea_block);
  write_attributes(block, attributes);
  return block;
}

void check_same(std::span<const StoredAttribute> expected, std::span<const StoredAttribute> found) {
  REQUIRE(found.size() == expected.size());
  for (std::size_t i = 0; i < found.size(); ++i) {
    CHECK(found[i].type == expected[i].type);
    CHECK(found[i].name == expected[i].name);
    CHECK(found[i].value_bytes == expected[i].value_bytes);
    CHECK(found[i].value == expected[i].value);
    CHECK(found[i].blocks == expected[i].blocks);
  }
}

TEST_CASE("attributes laid out in a block come back") {
  Geometry geometry(4096);
  std::vector<StoredAttribute> attributes{inside("a", 0), inside("name of seven", 7, EaType::security),
                                          apart("big", 65536, geometry), inside(std::string(255, 'n'), 300)};
  auto block = block_with(geometry, attributes);
  auto found = read_attributes(block, BlockNo(77), kFilesystemFormatMax);
  REQUIRE(found);
  check_same(attributes, *found);
  std::size_t bytes = 0;
  for (const StoredAttribute& attribute : attributes)
    bytes += attribute.record_bytes();
  CHECK(attribute_bytes(block, BlockNo(77), kFilesystemFormatMax) == bytes);
}

TEST_CASE("a block without attributes holds one unused record") {
  Geometry geometry(1024);
  auto block = block_with(geometry, {});
  const auto& header = view<ExtendedAttributeHeader>(std::span<const std::byte>(block), sizeof(MetaHeader));
  CHECK(header.type == 0);
  CHECK(header.record_length == 1000);
  CHECK(header.flags == kEaFlagLast);
  CHECK(read_attributes(block, BlockNo(77), kFilesystemFormatMin)->empty());
  CHECK(attribute_bytes(block, BlockNo(77), kFilesystemFormatMin) == 0);
}

TEST_CASE("only the last record is flagged, and it ends with the block") {
  Geometry geometry(512);
  std::vector<StoredAttribute> attributes{inside("one", 10), inside("two", 20), inside("three", 30)};
  auto block = block_with(geometry, attributes);
  EaWalker walker(block, BlockNo(9), kFilesystemFormatMax);
  std::size_t end = 0;
  for (int i = 0; i < 3; ++i) {
    auto record = walker.next();
    REQUIRE(record);
    REQUIRE(record->has_value());
    CHECK((*record)->last == (i == 2));
    end = (*record)->offset_bytes + (*record)->record_bytes;
  }
  CHECK(end == 512);
}

TEST_CASE("a value stays inside as long as an empty block could hold it") {
  Geometry geometry(4096);  // 4072 bytes of room
  CHECK(ValuePlacement::choose(geometry, 4, 4052).blocks == 0);
  CHECK(ValuePlacement::choose(geometry, 4, 4052).record_bytes == 4072);
  CHECK(ValuePlacement::choose(geometry, 4, 4053).blocks == 1);
  CHECK(ValuePlacement::choose(geometry, 4, 4073).blocks == 2);
  CHECK(ValuePlacement::choose(geometry, 4, 65536).blocks == 17);
  CHECK(ValuePlacement::choose(geometry, 4, 0).blocks == 0);
  Geometry small(512);  // 488 bytes of room
  CHECK(ValuePlacement::choose(small, 8, 58 * 488).record_bytes == 488);
  CHECK(ValuePlacement::choose(small, 8, 58 * 488 + 1).record_bytes == 496);
}

TEST_CASE("a value's block is filled up with zeros") {
  std::vector<std::byte> block(512, std::byte{0xff});
  std::vector<std::byte> value(100, std::byte{7});
  view<MetaHeader>(std::span(block)) = MetaHeader{};
  write_value_block(block, value);
  CHECK(view<MetaHeader>(std::span<const std::byte>(block)).meta_type() == MetaType::ea_data);
  CHECK(std::equal(value.begin(), value.end(), block.begin() + sizeof(MetaHeader)));
  CHECK(std::all_of(block.begin() + sizeof(MetaHeader) + 100, block.end(),
                    [](std::byte b) { return b == std::byte{0}; }));
}

TEST_CASE("random sets of attributes come back at every block size") {
  Random random(7);
  for (std::uint32_t block_size : {512u, 1024u, 2048u, 4096u}) {
    Geometry geometry(block_size);
    for (int round = 0; round < 200; ++round) {
      std::vector<StoredAttribute> attributes;
      std::size_t bytes = 0;
      for (;;) {
        std::string name(1 + random.below(60), static_cast<char>('a' + random.below(26)));
        auto attribute = random.below(4) == 0 ? apart(name, block_size + random.below(10'000), geometry)
                                              : inside(name, random.below(200));
        bytes += attribute.record_bytes();
        if (bytes > attribute_room_bytes(geometry)) break;
        attributes.push_back(std::move(attribute));
      }
      auto found = read_attributes(block_with(geometry, attributes), BlockNo(5), kFilesystemFormatMax);
      REQUIRE(found);
      check_same(attributes, *found);
    }
  }
}

TEST_CASE("a damaged block is refused") {
  Geometry geometry(512);
  std::vector<StoredAttribute> attributes{inside("one", 10), inside("two", 20)};
  auto block = block_with(geometry, attributes);
  view<ExtendedAttributeHeader>(std::span(block), sizeof(MetaHeader)).record_length = 4000;
  auto found = read_attributes(block, BlockNo(99), kFilesystemFormatMax);
  REQUIRE(!found);
  CHECK(found.error().kind() == ErrorKind::corrupt);
  CHECK(!attribute_bytes(block, BlockNo(99), kFilesystemFormatMax));
}

}  // namespace
}  // namespace corral
