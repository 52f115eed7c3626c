#include "dlm/range_table.h"

#include <algorithm>
#include <iterator>

#include "base/check.h"

namespace corral::dlm {

/// Makes `first` the beginning of a piece if it lies inside one.
void RangeTable::cut_at(Pieces& pieces, std::uint64_t first) {
  auto after = pieces.lower_bound(first);
  if (after == pieces.begin()) return;
  auto before = std::prev(after);
  if (before->second.last < first) return;
  Piece upper = before->second;
  before->second.last = first - 1;
  pieces.emplace(first, upper);
}

/// Makes one piece of the one that begins at `first` and its neighbour before, if they are alike.
void RangeTable::join_before(Pieces& pieces, std::uint64_t first) {
  auto piece = pieces.find(first);
  if (piece == pieces.end() || piece == pieces.begin()) return;
  auto before = std::prev(piece);
  if (before->second.last + 1 != first || before->second.mode != piece->second.mode) return;
  before->second.last = piece->second.last;
  before->second.process = piece->second.process;
  pieces.erase(piece);
}

void RangeTable::change(const HeldRange& wanted, bool weaken_only) {
  const auto [first, last] = wanted.range;
  CHECK_INVARIANT(first <= last && last <= kRangeEnd);
  Pieces& pieces = owners_[wanted.owner];
  size_ -= pieces.size();
  cut_at(pieces, first);
  cut_at(pieces, last + 1);
  for (auto piece = pieces.lower_bound(first); piece != pieces.end() && piece->first <= last;) {
    if (!weaken_only || wanted.mode == RangeMode::unlocked) {
      piece = pieces.erase(piece);
    } else {
      piece->second.mode = std::min(piece->second.mode, wanted.mode);
      ++piece;
    }
  }
  if (!weaken_only && wanted.mode != RangeMode::unlocked)
    pieces.emplace(first, Piece{last, wanted.mode, wanted.process});
  // Backwards, so that the beginnings that are asked for still are some.
  join_before(pieces, last + 1);
  for (auto piece = pieces.upper_bound(last); piece != pieces.begin();) {
    const std::uint64_t begin = std::prev(piece)->first;
    if (begin < first) break;
    join_before(pieces, begin);
    piece = pieces.lower_bound(begin);
  }
  size_ += pieces.size();
  if (pieces.empty()) owners_.erase(wanted.owner);
}

void RangeTable::set(const HeldRange& wanted) {
  change(wanted, false);
}

void RangeTable::weaken(const HeldRange& wanted) {
  change(wanted, true);
}

const RangeTable::Pieces::value_type* RangeTable::first_conflict(const Pieces& pieces, const HeldRange& wanted) {
  auto piece = pieces.upper_bound(wanted.range.first);
  if (piece != pieces.begin() && std::prev(piece)->second.last >= wanted.range.first) --piece;
  for (; piece != pieces.end() && piece->first <= wanted.range.last; ++piece) {
    if (wanted.mode == RangeMode::write || piece->second.mode == RangeMode::write) return &*piece;
  }
  return nullptr;
}

std::optional<HeldRange> RangeTable::conflict(const HeldRange& wanted) const {
  std::optional<HeldRange> found;
  if (wanted.mode == RangeMode::unlocked) return found;
  for (const auto& [owner, pieces] : owners_) {
    if (owner == wanted.owner) continue;
    const auto* piece = first_conflict(pieces, wanted);
    if (piece == nullptr || (found && found->range.first <= piece->first)) continue;
    found = HeldRange{owner, piece->second.process, piece->second.mode, {piece->first, piece->second.last}};
  }
  return found;
}

bool RangeTable::has(const HeldRange& wanted) const {
  auto owner = owners_.find(wanted.owner);
  if (owner == owners_.end()) return false;
  auto piece = owner->second.upper_bound(wanted.range.first);
  if (piece == owner->second.begin()) return false;
  --piece;
  return piece->second.mode == wanted.mode && piece->second.last >= wanted.range.last;
}

std::vector<RangeOwner> RangeTable::conflicting_owners(const HeldRange& wanted) const {
  std::vector<RangeOwner> found;
  if (wanted.mode == RangeMode::unlocked) return found;
  for (const auto& [owner, pieces] : owners_) {
    if (owner != wanted.owner && first_conflict(pieces, wanted) != nullptr) found.push_back(owner);
  }
  return found;
}

std::vector<HeldRange> RangeTable::held() const {
  std::vector<HeldRange> all;
  for (const auto& [owner, pieces] : owners_) {
    for (const auto& [first, piece] : pieces)
      all.push_back({owner, piece.process, piece.mode, {first, piece.last}});
  }
  return all;
}

}  // namespace corral::dlm
