#include "dlm/deaths.h"

#include "test/support/catch.h"

using namespace corral;
using namespace corral::dlm;

namespace {
constexpr NodeId kNode{2};
constexpr Member life(std::uint64_t incarnation) {
  return {kNode, Incarnation(incarnation)};
}
}  // namespace

TEST_CASE("a death is to be recovered from once", "[deaths]") {
  DeathTable deaths;
  CHECK_FALSE(deaths.unrecovered(kNode));
  deaths.died(life(7));
  CHECK(deaths.unrecovered(kNode));
  deaths.recovered(life(7));
  deaths.died(life(7));
  CHECK_FALSE(deaths.unrecovered(kNode));
  deaths.died(life(8));
  CHECK(deaths.unrecovered() == std::vector{kNode});
}

TEST_CASE("a recovery may be known before the death", "[deaths]") {
  DeathTable deaths;
  deaths.recovered(life(7));
  deaths.died(life(7));
  CHECK_FALSE(deaths.unrecovered(kNode));
}

TEST_CASE("who was taken for dead before it came in is dead when it dies", "[deaths]") {
  DeathTable deaths;
  deaths.died(life(7));
  deaths.recovered(life(7));  // it was on its way in
  deaths.lives(life(7));
  CHECK_FALSE(deaths.unrecovered(kNode));
  deaths.died(life(7));
  CHECK(deaths.unrecovered(kNode));
  deaths.recovered(life(7));
  CHECK_FALSE(deaths.unrecovered(kNode));
}

TEST_CASE("that a node's next life is a member says nothing of its last one", "[deaths]") {
  DeathTable deaths;
  deaths.died(life(7));
  deaths.lives(life(8));
  CHECK(deaths.unrecovered(kNode));
}
