/// The text fields of a superblock (struct gfs2_sb: sb_lockproto, sb_locktable): printable ASCII, zero-terminated.
#pragma once

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <string_view>

#include "ondisk/layout.h"

namespace corral::ondisk {

using TextField = std::array<char, kLockNameBytes>;

/// None where the field has no end or holds what cannot be printed.
inline std::optional<std::string> text_of(const TextField& field) {
  const auto end = std::ranges::find(field, '\0');
  const bool printable = std::all_of(field.begin(), end, [](char c) { return c >= ' ' && c <= '~'; });
  if (end == field.end() || !printable) return std::nullopt;
  return std::string(field.begin(), end);
}

/// `text` is shorter than the field.
inline void set_text(TextField& field, std::string_view text) {
  CHECK_INVARIANT(text.size() < field.size());
  field.fill('\0');
  std::ranges::copy(text, field.begin());
}

}  // namespace corral::ondisk
