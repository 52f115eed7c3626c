/// Byte ranges of files and who locks them: record locks (fcntl, of processes and of open file descriptions), flock.
#pragma once

#include <compare>
#include <cstdint>
#include <limits>

#include "cluster/member.h"

namespace corral::dlm {

/// Bytes first to last, both included. The end of every file is at most kRangeEnd.
struct Range {
  std::uint64_t first = 0;
  std::uint64_t last = 0;
  bool operator==(const Range&) const = default;
  bool overlaps(Range other) const { return first <= other.last && other.first <= last; }
};
inline constexpr std::uint64_t kRangeEnd = std::numeric_limits<std::int64_t>::max();
inline constexpr Range kWholeFile{0, kRangeEnd};

/// In ascending strength: a stronger one implies the weaker.
enum class RangeMode : std::uint8_t { unlocked = 0, read = 1, write = 2 };

/// What kind of lock it is: a flock owner loses what it holds before it gets another mode, and takes no part in the
/// search for deadlock.
enum class RangeOwnerKind : std::uint8_t { record = 0, flock = 1 };

/// Who locks: the kernel's lock owner on a node.
struct RangeOwner {
  Member node;
  RangeOwnerKind kind = RangeOwnerKind::record;
  std::uint64_t id = 0;
  auto operator<=>(const RangeOwner&) const = default;
};

/// A lock that is held. The process is for F_GETLK's answer only.
struct HeldRange {
  RangeOwner owner;
  std::uint32_t process = 0;
  RangeMode mode = RangeMode::read;
  Range range;
  bool operator==(const HeldRange&) const = default;
};

}  // namespace corral::dlm
