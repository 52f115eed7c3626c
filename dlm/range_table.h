/// The byte-range locks on one file: which owner holds which bytes in which mode. A pure data structure.
///
/// An owner's ranges do not overlap; neighbours of one mode are one range.
#pragma once

#include <cstddef>
#include <map>
#include <optional>
#include <vector>

#include "dlm/range.h"

namespace corral::dlm {

class RangeTable {
 public:
  bool empty() const { return owners_.empty(); }
  /// Number of ranges of all owners.
  std::size_t size() const { return size_; }

  /// Gives the owner the mode on exactly these bytes; `unlocked` takes them away. Splits and merges; checks no
  /// conflict.
  void set(const HeldRange& wanted);
  /// Where the owner holds more than `wanted.mode` on these bytes, it holds that from now on.
  void weaken(const HeldRange& wanted);
  /// The first range of another owner, by its first byte, that excludes `wanted`; none for `unlocked`.
  std::optional<HeldRange> conflict(const HeldRange& wanted) const;
  /// Has the owner exactly that mode on all of these bytes?
  bool has(const HeldRange& wanted) const;
  /// All owners whose ranges exclude `wanted`.
  std::vector<RangeOwner> conflicting_owners(const HeldRange& wanted) const;
  /// Everything, ordered by owner, then by first byte.
  std::vector<HeldRange> held() const;

 private:
  struct Piece {
    std::uint64_t last;
    RangeMode mode;
    std::uint32_t process;
  };
  using Pieces = std::map<std::uint64_t, Piece>;

  static void cut_at(Pieces& pieces, std::uint64_t first);
  static void join_before(Pieces& pieces, std::uint64_t first);
  static const Pieces::value_type* first_conflict(const Pieces& pieces, const HeldRange& wanted);
  void change(const HeldRange& wanted, bool weaken_only);

  std::map<RangeOwner, Pieces> owners_;
  std::size_t size_ = 0;
};

}  // namespace corral::dlm
