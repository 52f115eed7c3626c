#include "fuse/rejoin_pace.h"

#include "test/support/catch.h"

using namespace corral;
using namespace std::chrono_literals;

TEST_CASE("however long a node was kept away, and however often before, it tries again within seconds") {
  RejoinPace pace;
  for (int loss = 0; loss < 20; ++loss) {
    // Lost again as soon as it was back: what failed attempts had waited for counts no more.
    CHECK(pace.lost(1s) <= 30s);
    CHECK(pace.refused() == 500ms);
    CHECK(pace.refused() == 1s);
    for (int attempt = 0; attempt < 100; ++attempt)
      CHECK(pace.refused() <= 4s);
  }
}

TEST_CASE("a first loss is answered at once, later ones of short lives ever slower, and a sound life ends the row") {
  RejoinPace pace;
  CHECK(pace.lost(1s) == 0s);
  CHECK(pace.lost(59s) == 500ms);
  CHECK(pace.lost(0s) == 1s);
  Duration before = 1s;
  for (int loss = 0; loss < 20; ++loss) {
    const Duration pause = pace.lost(10s);
    CHECK(pause >= before);
    CHECK(pause <= 30s);
    before = pause;
  }
  CHECK(before == 30s);
  CHECK(pace.lost(60s) == 0s);
  CHECK(pace.lost(10s) == 500ms);
}
