/// What directories deal in: names with their hash, and what a name stands for.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/strong.h"
#include "ondisk/checksum.h"

namespace corral {

/// What a name stands for.
struct DirectoryEntry {
  BlockNo address;
  std::uint64_t formal_number = 0;
  std::uint8_t type = 0;  ///< DT_*
  /// de_rahead: blocks behind the dinode that are worth reading with it; 1 where its extended attributes begin there.
  std::uint16_t read_ahead = 0;
  bool operator==(const DirectoryEntry&) const = default;
};

/// A name and its directory hash, computed once per operation. Does not own the name.
struct HashedName {
  std::string_view name;
  std::uint32_t hash;
  explicit HashedName(std::string_view text) : name(text), hash(ondisk::name_hash(text)) {}
};

}  // namespace corral
