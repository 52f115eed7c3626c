#include "fs/growth_plan.h"

#include "ondisk/validate.h"
#include "test/support/catch.h"

using namespace corral;
using namespace corral::ondisk;

namespace {

std::uint64_t mebibytes(const Geometry& geometry, std::uint64_t count) {
  return count << (20 - geometry.block_shift());
}

/// Groups one behind the other from `end` on, each as the index wants it, none beyond the device.
void check_sound(const Geometry& geometry, const GrowthPlan& plan, BlockNo end, std::uint64_t device_blocks) {
  BlockNo behind = end;
  for (std::size_t i = 0; i < plan.groups.size(); ++i) {
    const PlannedGroup& group = plan.groups[i];
    CHECK(group.address >= behind);
    CHECK(check_rindex_entry(index_entry(group.address, group.shape), i, geometry, device_blocks).has_value());
    behind = group.address + group.shape.blocks();
    const bool last = i + 1 == plan.groups.size();
    CHECK(group.skip == (last ? 0 : plan.groups[i + 1].address - group.address));
  }
  CHECK(behind.value <= device_blocks);
  CHECK(plan.spare_blocks == device_blocks - behind.value);
}

}  // namespace

TEST_CASE("a volume grows by even groups that are no larger than those it has", "[growth]") {
  for (const std::uint32_t block_size : {512u, 1024u, 4096u}) {
    const Geometry geometry(block_size);
    const BlockNo end(mebibytes(geometry, 500) + 3);
    const std::uint64_t usual = mebibytes(geometry, 256);
    for (const std::uint64_t size : {532u + 1, 700u, 756u, 757u, 1024u, 5000u, 100'000u}) {
      const std::uint64_t device_blocks = mebibytes(geometry, size);
      const GrowthPlan plan = plan_growth(geometry, {}, end, device_blocks, usual);
      INFO(block_size << " " << size << ": " << plan.groups.size() << " groups");
      REQUIRE_FALSE(plan.groups.empty());
      check_sound(geometry, plan, end, device_blocks);
      // Nothing that matters is left over.
      CHECK(plan.spare_blocks < plan.groups.size() * 8);
      for (const PlannedGroup& group : plan.groups) {
        CHECK(group.shape.blocks() <= usual);
        CHECK(group.shape.blocks() + 8 >= geometry.blocks_for(kLeastGrowthBytes));
      }
    }
  }
}

TEST_CASE("less than the smallest group adds nothing", "[growth]") {
  const Geometry geometry(4096);
  const BlockNo end(mebibytes(geometry, 500));
  for (const std::uint64_t size : {100u, 500u, 501u, 531u}) {
    const GrowthPlan plan = plan_growth(geometry, {}, end, mebibytes(geometry, size), mebibytes(geometry, 64));
    CHECK(plan.groups.empty());
    CHECK(plan.spare_blocks == mebibytes(geometry, size > 500 ? size - 500 : 0));
  }
  CHECK(plan_growth(geometry, {}, end, mebibytes(geometry, 532), mebibytes(geometry, 64)).groups.size() == 1);
}

TEST_CASE("groups of a volume on stripes begin where stripes do", "[growth]") {
  const Geometry geometry(4096);
  const GroupAlignment alignment = GroupAlignment::of_stripes(geometry, 64 << 10, 256 << 10, 0);
  REQUIRE(alignment.enabled());
  const BlockNo end(mebibytes(geometry, 500) + 5);
  const std::uint64_t device_blocks = mebibytes(geometry, 2000);
  const GrowthPlan plan = plan_growth(geometry, alignment, end, device_blocks, mebibytes(geometry, 256));
  REQUIRE(plan.groups.size() > 4);
  check_sound(geometry, plan, end, device_blocks);
  for (const PlannedGroup& group : plan.groups)
    CHECK(group.address.value % alignment.unit_blocks == 0);
  // Figures that make no sense are not gone by.
  CHECK_FALSE(GroupAlignment::of_stripes(geometry, 1000, 256 << 10, 0).enabled());
  CHECK_FALSE(GroupAlignment::of_stripes(geometry, 64 << 10, std::uint64_t{1} << 40, 0).enabled());
}
