#include "fs/lookup_ahead.h"

#include <vector>

#include "base/random.h"
#include "test/support/catch.h"

using namespace corral;

namespace {
struct Outcome {
  std::size_t misses = 0;
  std::size_t read_ahead = 0;
};

/// Looks different names up in a directory, in an order that has nothing to do with that of its entries.
Outcome look_up(std::size_t entries, std::size_t lookups) {
  LookupAhead ahead;
  Random random(1);
  std::vector<bool> in_memory(entries);
  std::vector<std::size_t> place(entries);
  for (std::size_t i = 0; i < entries; ++i) {
    place[i] = i;
    std::swap(place[i], place[random.below(i + 1)]);
  }
  Outcome outcome;
  for (std::size_t i = 0; i < lookups; ++i) {
    std::size_t wanted = place[i];
    outcome.misses += in_memory[wanted] ? 0 : 1;
    std::size_t count = ahead.note(in_memory[wanted]);
    std::size_t at = ahead.next();
    for (outcome.read_ahead += count; count > 0 && at < entries; --count)
      in_memory[at++] = true;
    if (at != ahead.next()) ahead.advance(at == entries ? 0 : at);
    in_memory[wanted] = true;
  }
  return outcome;
}
}  // namespace

TEST_CASE("a directory whose names are all looked up is read ahead", "[lookup_ahead]") {
  CHECK(look_up(20, 20).misses <= 8);
  CHECK(look_up(2000, 2000).misses < 300);
  CHECK(look_up(100000, 100000).misses < 10000);
}

TEST_CASE("a few names of very many are not worth reading ahead", "[lookup_ahead]") {
  Outcome outcome = look_up(1000000, 5000);
  CHECK(outcome.misses > 4900);
  CHECK(outcome.read_ahead < 2000);
}

TEST_CASE("a single lookup reads nothing ahead", "[lookup_ahead]") {
  LookupAhead ahead;
  CHECK(ahead.note(false) == 0);
  CHECK(ahead.note(true) == 0);
  CHECK(ahead.note(false) == 0);
}

TEST_CASE("at the directory's end reading ahead begins anew", "[lookup_ahead]") {
  LookupAhead ahead;
  std::size_t entries = 0;
  for (int i = 0; i < 4; ++i)
    entries = ahead.note(false);
  CHECK(entries > 0);
  CHECK(entries <= LookupAhead::kMostEntries);
  ahead.advance(17);
  CHECK(ahead.next() == 17);
  ahead.advance(0);
  CHECK(ahead.next() == 0);
  CHECK(ahead.note(true) == 0);
  CHECK(ahead.note(false) == 0);
}
