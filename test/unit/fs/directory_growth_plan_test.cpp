#include "fs/directory_growth_plan.h"

#include "test/support/catch.h"

using namespace corral;

TEST_CASE("a leaf splits as often as the name needs, the table doubles only if it must") {
  // Two names that differ in the uppermost bit.
  GrowthPlan plan = plan_growth({{0x00000000, 300}}, {0x80000000, 200}, 408, 0, 5);
  CHECK(plan.splits == 1);
  CHECK(plan.doublings == 0);
  CHECK_FALSE(plan.chains);

  // They differ in the fourth bit only.
  plan = plan_growth({{0x00000000, 300}}, {0x10000000, 200}, 408, 0, 5);
  CHECK(plan.splits == 4);
  CHECK(plan.doublings == 0);

  // The leaf is as deep as the table.
  plan = plan_growth({{0xf0000000, 300}}, {0xf0800000, 200}, 408, 5, 5);
  CHECK(plan.splits == 4);
  CHECK(plan.doublings == 4);
  CHECK_FALSE(plan.chains);
}

TEST_CASE("names whose upper 17 bits agree are chained") {
  GrowthPlan plan = plan_growth({{0xabcd8000, 300}, {0x00000000, 40}}, {0xabcdffff, 200}, 408, 0, 5);
  CHECK(plan.splits == 17);
  CHECK(plan.doublings == 12);
  CHECK(plan.chains);

  plan = plan_growth({{1, 300}}, {1, 200}, 408, 17, 17);
  CHECK(plan.splits == 0);
  CHECK(plan.doublings == 0);
  CHECK(plan.chains);
}

TEST_CASE("no growth where the name fits") {
  GrowthPlan plan = plan_growth({{1, 208}}, {1, 200}, 408, 3, 5);
  CHECK(plan.splits == 0);
  CHECK(plan.doublings == 0);
  CHECK_FALSE(plan.chains);
}
