#include "ondisk/ea_walker.h"

#include "test/unit/ondisk/blocks.h"

using namespace corral;
using namespace corral::ondisk;
using namespace corral::ondisk::test;

namespace {

constexpr BlockNo kPlace{1000};
constexpr std::size_t kFirst = sizeof(MetaHeader);

ExtendedAttributeHeader& put_record(Block& block, std::size_t offset, std::uint32_t record_length, EaType type,
                                    std::string_view name, std::string_view value) {
  auto& header = view<ExtendedAttributeHeader>(block, offset);
  header.record_length = record_length;
  header.data_length = static_cast<std::uint32_t>(value.size());
  header.name_length = static_cast<std::uint8_t>(name.size());
  header.type = std::to_underlying(type);
  char* text = reinterpret_cast<char*>(block.data()) + offset + sizeof(header);
  std::memcpy(text, name.data(), name.size());
  std::memcpy(text + name.size(), value.data(), value.size());
  return header;
}

/// 512 bytes: user.colour=red at 24, unused at 56, security.big in two further blocks at 96 to the end.
Block make_attributes() {
  Block block = make_block(MetaType::ea_block, 512);
  put_record(block, kFirst, 32, EaType::user, "colour", "red");
  put_record(block, kFirst + 32, 40, EaType::unused, "", "").data_length = 60'000;
  auto& big = put_record(block, kFirst + 72, 416, EaType::security, "big", "");
  big.flags = kEaFlagLast;
  big.num_ptrs = 2;
  big.data_length = 600;
  view<be64>(block, kFirst + 72 + 24) = 2000;
  view<be64>(block, kFirst + 72 + 32) = 2001;
  return block;
}

Result<std::vector<EaRecord>> records_in(const Block& block, std::uint32_t fs_format = 1802) {
  std::vector<EaRecord> records;
  EaWalker walker(block, kPlace, fs_format);
  for (;;) {
    TRY(auto record, walker.next());
    if (!record) return records;
    records.push_back(*record);
  }
}

template <class Change>
Result<std::vector<EaRecord>> damaged(std::size_t offset, Change change, std::uint32_t fs_format = 1802) {
  Block block = make_attributes();
  change(view<ExtendedAttributeHeader>(block, offset));
  return records_in(block, fs_format);
}

using Header = ExtendedAttributeHeader;

}  // namespace

TEST_CASE("attributes are given with their value or its blocks") {
  Block block = make_attributes();
  auto records = records_in(block).value();
  REQUIRE(records.size() == 3);
  CHECK(records[0].type == EaType::user);
  CHECK(records[0].name == "colour");
  CHECK(records[0].is_inline());
  CHECK(std::string(reinterpret_cast<const char*>(records[0].value.data()), records[0].value.size()) == "red");
  CHECK(records[0].offset_bytes == 24);
  CHECK(records[0].record_bytes == 32);
  CHECK(!records[0].last);
  CHECK(records[1].type == EaType::unused);
  CHECK(records[1].name.empty());
  CHECK(records[2].name == "big");
  CHECK(records[2].value_bytes == 600);
  REQUIRE(records[2].pointers.size() == 2);
  CHECK(records[2].pointers[1] == 2001);
  CHECK(records[2].last);
}

TEST_CASE("an attribute may have an empty value and more pointers than it needs") {
  CHECK(damaged(kFirst, [](Header& h) { h.data_length = 0; }));
  auto records = damaged(kFirst + 72, [](Header& h) { h.data_length = 488; });
  REQUIRE(records);
  CHECK(records->back().pointers.size() == 1);
}

TEST_CASE("sizes of records") {
  CHECK(ea_inline_bytes(3, 5) == 24);
  CHECK(ea_inline_bytes(3, 6) == 32);
  CHECK(ea_pointer_bytes(3, 2) == 40);
  CHECK(ea_pointer_bytes(8, 1) == 32);
}

TEST_CASE("a block of another type has no attributes") {
  Block block = make_attributes();
  view<MetaHeader>(block).type = 5;
  check_corrupt(records_in(block), "expected 10 (extended attributes)");
}

TEST_CASE("attribute records with a bad length are refused") {
  for (std::uint32_t length : {0u, 8u, 20u, 33u, 492u, 0xFFFFFFF8u})
    check_corrupt(damaged(kFirst, [&](Header& h) { h.record_length = length; }), "record at byte 24 has length");
  check_corrupt(damaged(kFirst + 72, [](Header& h) { h.record_length = 400; }), "expected 416 to the block's end");
  check_corrupt(damaged(kFirst + 72, [](Header& h) { h.flags = 0; }), "0 bytes left at byte 512, too few");
}

TEST_CASE("attribute records whose contents do not fit are refused") {
  check_corrupt(damaged(kFirst, [](Header& h) { h.data_length = 11; }), "length 32, but its contents need 40");
  check_corrupt(damaged(kFirst, [](Header& h) { h.name_length = 14; }), "but its contents need 40");
  check_corrupt(damaged(kFirst, [](Header& h) { h.name_length = 0; }), "empty name");
  check_corrupt(damaged(kFirst, [](Header& h) { h.data_length = 65'537; }), "65537 bytes, expected at most 65536");
  check_corrupt(damaged(kFirst + 72, [](Header& h) { h.num_ptrs = 1; }), "1 pointers for a value of 600 bytes");
  check_corrupt(damaged(kFirst + 72, [](Header& h) { h.data_length = 0; }), "2 pointers for a value of 0 bytes");
  check_corrupt(damaged(kFirst + 72, [](Header& h) { h.num_ptrs = 255; }), "but its contents need");
}

TEST_CASE("attribute types depend on the volume's format") {
  auto trusted = [](Header& h) { h.type = 4; };
  CHECK(damaged(kFirst, trusted, 1802));
  check_corrupt(damaged(kFirst, trusted, 1801), "type 4, expected at most 3");
  check_corrupt(damaged(kFirst, [](Header& h) { h.type = 5; }), "type 5, expected at most 4");
}

TEST_CASE("a walk of attributes is over after an error") {
  Block block = make_attributes();
  view<Header>(block, kFirst).record_length = 0;
  EaWalker walker(block, kPlace, 1802);
  CHECK(!walker.next());
  CHECK(!walker.next().value().has_value());
}
