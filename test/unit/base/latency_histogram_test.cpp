#include "base/latency_histogram.h"

#include "test/support/catch.h"

using namespace corral;
using namespace std::chrono_literals;

TEST_CASE("latencies are counted by powers of two of microseconds") {
  LatencyHistogram histogram;
  for (const Duration taken :
       {Duration(0), Duration(999ns), Duration(1us), Duration(3us), Duration(4us), Duration(-5us)})
    histogram.add(taken);
  histogram.add(1h);
  CHECK(histogram.buckets()[0] == 3);
  CHECK(histogram.buckets()[1] == 1);
  CHECK(histogram.buckets()[2] == 1);
  CHECK(histogram.buckets()[3] == 1);
  CHECK(histogram.buckets()[LatencyHistogram::kBuckets - 1] == 1);
  CHECK(histogram.total() == 1h + 3us + 4us + 1us + 999ns - 5us);
}
