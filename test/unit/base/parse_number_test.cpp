#include "base/parse_number.h"

#include "test/support/catch.h"

using namespace corral;

TEST_CASE("only a whole text of digits that fits is a number") {
  CHECK(parse_number("0") == 0);
  CHECK(parse_number("18446744073709551615") == UINT64_MAX);
  CHECK(parse_number<std::uint16_t>("65535") == 65535);
  CHECK_FALSE(parse_number<std::uint16_t>("65536"));
  for (const char* wrong : {"", " 1", "1 ", "-1", "+1", "0x10", "1k", "18446744073709551616"})
    CHECK_FALSE(parse_number(wrong));
}
