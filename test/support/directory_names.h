/// Names for tests of directories: of any length and bytes, and with a given directory hash.
#pragma once

#include <cstdint>
#include <string>

#include "base/check.h"
#include "base/random.h"
#include "ondisk/checksum.h"
#include "ondisk/validate.h"

namespace corral::test {

/// A name of so many bytes, each any but '/' and 0.
inline std::string random_name(Random& random, std::size_t length) {
  std::string name(length, '\0');
  for (char& c : name)
    do {
      c = static_cast<char>(random.between(1, 255));
    } while (c == '/');
  return name;
}

/// A name of so many bytes (at least 8) with that directory hash: the last four bytes are what turns the CRC of the
/// random ones before them into the hash.
inline std::string name_with_hash(Random& random, std::size_t length, std::uint32_t hash) {
  CHECK_INVARIANT(length >= 8);
  std::uint32_t wanted = ~hash;
  for (int bit = 0; bit < 32; ++bit)
    wanted = (wanted & 0x80000000u) != 0 ? ((wanted ^ 0xEDB88320u) << 1) | 1 : wanted << 1;
  for (;;) {
    std::string name = random_name(random, length - 4);
    const std::uint32_t last = wanted ^ ~ondisk::name_hash(name);
    for (int i = 0; i < 4; ++i)
      name.push_back(static_cast<char>(last >> (8 * i)));
    if (!ondisk::is_valid_name(name)) continue;
    CHECK_INVARIANT(ondisk::name_hash(name) == hash);
    return name;
  }
}

}  // namespace corral::test
