#include "dlm/types.h"

#include <fmt/format.h>

namespace corral::dlm {

std::uint64_t ResourceName::hash() const {
  // FNV-1a, with a last mix because the directory divides by the upper bits.
  std::uint64_t hash = 0xCBF29CE484222325u ^ lockspace_.value;
  for (char c : bytes())
    hash = (hash ^ static_cast<std::uint8_t>(c)) * 0x100000001B3u;
  hash = (hash ^ (hash >> 32)) * 0xD6E8FEB86659FD93u;
  hash = (hash ^ (hash >> 32)) * 0xD6E8FEB86659FD93u;
  return hash ^ (hash >> 32);
}

std::string ResourceName::describe() const {
  std::string text = fmt::format("{}:", lockspace_.value);
  for (char c : bytes()) {
    if (c >= ' ' && c <= '~' && c != '\\') {
      text += c;
    } else {
      text += fmt::format("\\x{:02x}", static_cast<std::uint8_t>(c));
    }
  }
  return text;
}

}  // namespace corral::dlm
