#include "disk/adaptive_spin.h"

#include "test/support/catch.h"

using corral::AdaptiveSpin;

namespace {
int sleeps_until_worthwhile(AdaptiveSpin& spin) {
  int sleeps = 0;
  while (!spin.worthwhile())
    ++sleeps;
  return sleeps;
}
}  // namespace

TEST_CASE("spinning goes on while events come") {
  AdaptiveSpin spin;
  for (int i = 0; i < 100; ++i) {
    REQUIRE(spin.worthwhile());
    spin.came_of_it(true);
  }
}

TEST_CASE("each look in vain doubles the sleeps before the next, to a limit; an event ends that") {
  AdaptiveSpin spin;
  int wanted = 0;
  for (int i = 0; i < 12; ++i) {
    REQUIRE(sleeps_until_worthwhile(spin) == wanted);
    spin.came_of_it(false);
    wanted = wanted == 0 ? 1 : std::min(2 * wanted, AdaptiveSpin::kLongestRest);
  }
  REQUIRE(sleeps_until_worthwhile(spin) == AdaptiveSpin::kLongestRest);
  spin.came_of_it(true);
  REQUIRE(sleeps_until_worthwhile(spin) == 0);
}
