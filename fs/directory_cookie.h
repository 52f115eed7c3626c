/// Places of names in the order in which a directory is listed, as cookies for telldir and seekdir.
///
/// A name's place is its directory hash (upper 32 bits of 63), then bits of a second hash of the name, then a number
/// among names that agree in all of these. So the place depends on the name alone, not on where its dirent lies, on
/// the table's depth or on what other names there are: an entry that exists throughout a listing has the same place all
/// the time. A listing gives entries in rising order of place and goes on behind the last one given; hence it gives
/// each such entry exactly once. (Only the number among names that agree in both hashes, 59 bits, changes with the
/// others: chance does not make such names.)
///
/// The order is also that of the hash table, so that a cookie leads straight to its leaf. A cookie is positive as a
/// signed 64-bit number, as off_t and NFS want it, and 0 only as the beginning.
#pragma once

#include <cstdint>
#include <limits>
#include <string_view>

namespace corral {

/// Where a listing goes on: at the first name whose place is not less.
using DirectoryCookie = std::uint64_t;

constexpr DirectoryCookie kLastCookie = std::numeric_limits<std::int64_t>::max();

/// Names that agree in both hashes and can be told apart by place; further ones share the last number.
constexpr std::uint32_t kNumberedTwins = 15;

/// The place of a name with that directory hash that has no twin.
DirectoryCookie place_of(std::uint32_t hash, std::string_view name);
/// Directory hash of the names that begin at the cookie.
constexpr std::uint32_t hash_of_cookie(DirectoryCookie cookie) {
  return static_cast<std::uint32_t>(cookie >> 31);
}
/// The place of the `number`th of several names with the same place_of(), in the order of their bytes.
constexpr DirectoryCookie place_of_twin(DirectoryCookie place, std::uint32_t number) {
  return place + (number < kNumberedTwins ? number : kNumberedTwins - 1);
}

}  // namespace corral
