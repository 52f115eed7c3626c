// Ranges against the plainest model: a mode per owner and byte.
#include "dlm/range_table.h"

#include "base/random.h"
#include "test/support/catch.h"

using namespace corral;
using namespace corral::dlm;

namespace {

constexpr std::uint64_t kBytes = 40;

RangeOwner owner(std::uint64_t number) {
  return {{NodeId(static_cast<std::uint32_t>(number % 2)), Incarnation(1)}, RangeOwnerKind::record, number};
}

}  // namespace

TEST_CASE("ranges split and merge") {
  RangeTable table;
  table.set({owner(1), 10, RangeMode::write, {0, 99}});
  table.set({owner(1), 10, RangeMode::read, {20, 29}});
  CHECK(table.held() == std::vector<HeldRange>{{owner(1), 10, RangeMode::write, {0, 19}},
                                               {owner(1), 10, RangeMode::read, {20, 29}},
                                               {owner(1), 10, RangeMode::write, {30, 99}}});
  table.set({owner(1), 10, RangeMode::write, {20, 29}});
  CHECK(table.held() == std::vector<HeldRange>{{owner(1), 10, RangeMode::write, {0, 99}}});
  table.set({owner(1), 10, RangeMode::unlocked, {50, kRangeEnd}});
  CHECK(table.held() == std::vector<HeldRange>{{owner(1), 10, RangeMode::write, {0, 49}}});
  table.set({owner(1), 10, RangeMode::unlocked, kWholeFile});
  CHECK(table.empty());
  CHECK(table.size() == 0);
}

TEST_CASE("a conflict names the first lock in the way, its owner and its process") {
  RangeTable table;
  table.set({owner(1), 11, RangeMode::read, {10, 19}});
  table.set({owner(2), 22, RangeMode::write, {30, kRangeEnd}});
  CHECK(!table.conflict({owner(3), 33, RangeMode::read, {0, 29}}));
  CHECK(table.conflict({owner(3), 33, RangeMode::write, {0, 29}}) ==
        HeldRange{owner(1), 11, RangeMode::read, {10, 19}});
  CHECK(table.conflict({owner(3), 33, RangeMode::read, kWholeFile}) ==
        HeldRange{owner(2), 22, RangeMode::write, {30, kRangeEnd}});
  CHECK(!table.conflict({owner(1), 11, RangeMode::write, {0, 29}}));
  CHECK(!table.conflict({owner(3), 33, RangeMode::unlocked, kWholeFile}));
  CHECK(table.conflicting_owners({owner(3), 33, RangeMode::write, kWholeFile}) ==
        std::vector<RangeOwner>{owner(2), owner(1)});
}

TEST_CASE("random ranges agree with a mode per byte") {
  for (std::uint64_t seed = 1; seed <= 200; ++seed) {
    Random random(seed);
    RangeTable table;
    RangeMode model[4][kBytes] = {};
    for (int step = 0; step < 200; ++step) {
      const std::uint64_t who = random.below(4);
      const std::uint64_t first = random.below(kBytes);
      const std::uint64_t last = random.between(first, kBytes - 1);
      const HeldRange wanted{owner(who), 1, static_cast<RangeMode>(random.below(3)), {first, last}};
      bool expected = false;
      for (std::uint64_t other = 0; other < 4; ++other) {
        for (std::uint64_t byte = first; byte <= last; ++byte) {
          const RangeMode held = model[other][byte];
          if (other != who && wanted.mode != RangeMode::unlocked && held != RangeMode::unlocked)
            expected |= held == RangeMode::write || wanted.mode == RangeMode::write;
        }
      }
      INFO("seed " << seed << " step " << step);
      REQUIRE(table.conflict(wanted).has_value() == expected);
      const bool weaken = random.chance(1, 5);
      if (expected && !weaken) continue;
      weaken ? table.weaken(wanted) : table.set(wanted);
      for (std::uint64_t byte = first; byte <= last; ++byte)
        model[who][byte] = weaken ? std::min(model[who][byte], wanted.mode) : wanted.mode;
      // The table says the same, in as few ranges as can be.
      RangeMode seen[4][kBytes] = {};
      const auto held = table.held();
      REQUIRE(held.size() == table.size());
      for (std::size_t i = 0; i < held.size(); ++i) {
        for (std::uint64_t byte = held[i].range.first; byte <= held[i].range.last; ++byte)
          seen[held[i].owner.id][byte] = held[i].mode;
        if (i > 0 && held[i - 1].owner == held[i].owner)
          REQUIRE((held[i - 1].range.last + 1 < held[i].range.first || held[i - 1].mode != held[i].mode));
      }
      REQUIRE(std::equal(&seen[0][0], &seen[0][0] + 4 * kBytes, &model[0][0]));
    }
  }
}
