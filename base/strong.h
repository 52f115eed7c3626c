/// Strong integer types: a number that carries what it counts, so that a file block cannot be passed for a disk block.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>

namespace corral {

/// An integer of its own kind. Differences are plain integers; sums and comparisons stay within the kind.
template <class Tag, class Integer = std::uint64_t>
struct Strong {
  Integer value{};

  constexpr Strong() = default;
  constexpr explicit Strong(Integer v) : value(v) {}

  constexpr auto operator<=>(const Strong&) const = default;
  constexpr Strong operator+(Integer n) const { return Strong(value + n); }
  constexpr Strong operator-(Integer n) const { return Strong(value - n); }
  constexpr Integer operator-(Strong other) const { return value - other.value; }
  constexpr Strong& operator+=(Integer n) { return value += n, *this; }
  constexpr Strong& operator-=(Integer n) { return value -= n, *this; }
  constexpr Strong& operator++() { return ++value, *this; }
  constexpr explicit operator bool() const { return value != 0; }
};

/// Address of a filesystem block on the device, in filesystem blocks from the device's start. 0 means none.
using BlockNo = Strong<struct BlockNoTag>;
/// Index of a block within a file, in filesystem blocks from the file's start.
using FileBlock = Strong<struct FileBlockTag>;
/// Number of a journal (jid in GFS2's messages), 0 for journal0; also a node's slot number.
using JournalId = Strong<struct JournalIdTag, std::uint32_t>;

}  // namespace corral

template <class Tag, class Integer>
struct std::hash<corral::Strong<Tag, Integer>> {
  std::size_t operator()(const corral::Strong<Tag, Integer>& s) const noexcept { return std::hash<Integer>{}(s.value); }
};
