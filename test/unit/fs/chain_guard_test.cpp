#include "fs/chain_guard.h"

#include "test/support/catch.h"

using namespace corral;

TEST_CASE("a chain that runs in a circle is noticed") {
  for (std::uint64_t lead : {0u, 1u, 5u, 100u}) {
    for (std::uint64_t circle : {1u, 2u, 7u, 64u, 1000u}) {
      ChainGuard guard;
      std::uint64_t steps = 0;
      std::uint64_t block = 1;
      while (guard.visit(BlockNo(block)) && steps < 100000) {
        ++steps;
        block = block == lead + circle ? lead + 1 : block + 1;
      }
      CHECK(steps >= lead + circle);
      CHECK(steps <= 4 * (lead + circle) + 4);
    }
  }
  ChainGuard guard;
  for (std::uint64_t block = 1; block < 10000; ++block)
    CHECK(guard.visit(BlockNo(block)));
}
