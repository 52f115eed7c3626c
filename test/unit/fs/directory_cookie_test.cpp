#include "fs/directory_cookie.h"

#include <set>
#include <string>

#include "ondisk/checksum.h"
#include "test/support/catch.h"
#include "test/support/directory_names.h"

using namespace corral;

TEST_CASE("places follow the order of hashes and are positive cookies") {
  CHECK(hash_of_cookie(0) == 0);
  CHECK(hash_of_cookie(kLastCookie) == 0xffffffffu);
  for (std::uint32_t hash : {0u, 1u, 0x7fffffffu, 0x80000000u, 0xffffffffu}) {
    const DirectoryCookie place = place_of_twin(place_of(hash, "name"), 1000);
    CHECK(hash_of_cookie(place) == hash);
    CHECK(hash_of_cookie(place + 1) == hash);
    CHECK(place + 1 <= kLastCookie);
  }
  CHECK(place_of(1, "a") < place_of(2, "a"));
  CHECK(place_of(1, "a") == place_of(1, "a"));
}

TEST_CASE("names of equal directory hash have places of their own") {
  Random random(5);
  std::set<DirectoryCookie> places;
  for (int i = 0; i < 2000; ++i)
    places.insert(place_of(0x12345678, test::name_with_hash(random, 8 + random.below(40), 0x12345678)));
  CHECK(places.size() == 2000);
}

TEST_CASE("twins are numbered") {
  const DirectoryCookie place = place_of(7, "twin");
  CHECK(place_of_twin(place, 0) == place);
  CHECK(place_of_twin(place, 1) == place + 1);
  CHECK(place_of_twin(place, kNumberedTwins) == place + kNumberedTwins - 1);
}
