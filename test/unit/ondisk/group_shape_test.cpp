#include "ondisk/group_shape.h"

#include <algorithm>
#include <numeric>

#include "ondisk/validate.h"
#include "test/support/catch.h"

using namespace corral;
using namespace corral::ondisk;

namespace {

bool is_valid(const Geometry& geometry, const GroupShape& shape) {
  ondisk::ResourceGroupIndexEntry entry{};
  entry.addr = geometry.superblock().value + 1;
  entry.length = shape.length;
  entry.data0 = entry.addr + shape.length;
  entry.data = shape.data;
  entry.bitmap_bytes = shape.data / 4;
  return ondisk::check_rindex_entry(entry, 0, geometry, std::uint64_t{1} << 40).has_value();
}

}  // namespace

TEST_CASE("a group holds the data asked for and has no header block too many") {
  for (std::uint32_t block_size : {512u, 1024u, 2048u, 4096u}) {
    const Geometry geometry(block_size);
    for (std::uint64_t data = 1; data < 70'000; data += 37) {
      const GroupShape shape = group_with_data(geometry, data);
      REQUIRE(is_valid(geometry, shape));
      REQUIRE(shape.data >= data);
      REQUIRE(shape.data < data + 4);
    }
  }
}

TEST_CASE("the largest group within a span wastes at most what no group could use") {
  for (std::uint32_t block_size : {512u, 4096u}) {
    const Geometry geometry(block_size);
    for (std::uint64_t blocks = 5; blocks < 70'000; ++blocks) {
      auto shape = group_within(geometry, blocks);
      REQUIRE(shape);
      REQUIRE(is_valid(geometry, *shape));
      REQUIRE(shape->blocks() <= blocks);
      REQUIRE(group_with_data(geometry, shape->data + 1).blocks() > blocks);
    }
  }
  CHECK(!group_within(Geometry(4096), 4));
  CHECK(!group_within(Geometry(4096), 0));
}

TEST_CASE("spans without alignment are even and waste less than one group's rounding") {
  const Geometry geometry(4096);
  for (std::uint64_t count : {1u, 3u, 7u, 16u, 100u}) {
    for (std::uint64_t blocks : {1'000'000u, 1'000'001u, 1'000'003u, 812'345u}) {
      auto spans = divide_evenly(geometry, GroupAlignment{}, blocks, count);
      REQUIRE(spans.size() == count);
      auto sum = std::accumulate(spans.begin(), spans.end(), std::uint64_t{0});
      CHECK(sum <= blocks);
      CHECK(blocks - sum < 8);
      CHECK(spans.front() - spans.back() <= 4);
    }
  }
  CHECK(divide_evenly(geometry, GroupAlignment{}, 20, 5).empty());
}

TEST_CASE("aligned groups begin at stripe units, each one unit further into the stripe") {
  const Geometry geometry(4096);
  const GroupAlignment alignment{.unit_blocks = 16, .width_blocks = 64, .first_block = 3};
  CHECK(alignment.align(BlockNo(0)) == BlockNo(3));
  CHECK(alignment.align(BlockNo(3)) == BlockNo(3));
  CHECK(alignment.align(BlockNo(4)) == BlockNo(19));
  CHECK(alignment.align(BlockNo(17)) == BlockNo(19));
  CHECK(alignment.span_for(1) == 80);
  CHECK(alignment.span_for(80) == 80);
  CHECK(alignment.span_for(81) == 144);
  auto spans = divide_evenly(geometry, alignment, 100'000, 3);
  REQUIRE(spans.size() == 3);
  for (std::uint64_t span : spans)
    CHECK(span % 64 == 16);
  CHECK(spans.front() - spans.back() <= 64);
  CHECK(divide_evenly(geometry, alignment, 239, 3).empty());
  CHECK(divide_evenly(geometry, alignment, 240, 3).size() == 3);
}

TEST_CASE("no alignment changes nothing") {
  const GroupAlignment none{};
  CHECK(!none.enabled());
  CHECK(none.align(BlockNo(17)) == BlockNo(17));
  CHECK(none.span_for(1234) == 1234);
}
