#include "fs/directory_cookie.h"

namespace corral {

namespace {

constexpr std::uint32_t kTwinBits = 4;
constexpr std::uint32_t kSecondHashBits = 31 - kTwinBits;
static_assert(kNumberedTwins == (1 << kTwinBits) - 1, "the greatest place + 1 must still be a positive cookie");

/// FNV-1a with a final mixing (of splitmix64): nothing in common with CRC-32, whose collisions it has to tell apart.
std::uint64_t second_hash(std::string_view name) {
  std::uint64_t hash = 0xCBF29CE484222325u;
  for (char c : name)
    hash = (hash ^ static_cast<std::uint8_t>(c)) * 0x100000001B3u;
  hash = (hash ^ (hash >> 30)) * 0xBF58476D1CE4E5B9u;
  return hash ^ (hash >> 27);
}

}  // namespace

DirectoryCookie place_of(std::uint32_t hash, std::string_view name) {
  const std::uint64_t second = second_hash(name) >> (64 - kSecondHashBits);
  return (std::uint64_t{hash} << 31) | (second << kTwinBits);
}

}  // namespace corral
