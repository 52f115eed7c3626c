/// Lock modes and their tables. Names, order and compatibility are those of the VMS distributed lock manager.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

namespace corral::dlm {

enum class Mode : std::uint8_t {
  null = 0,              ///< NL: no access; keeps the resource and its value block alive
  concurrent_read = 1,   ///< CR
  concurrent_write = 2,  ///< CW
  protected_read = 3,    ///< PR: "shared"
  protected_write = 4,   ///< PW
  exclusive = 5,         ///< EX
};
inline constexpr std::size_t kModes = 6;
inline constexpr std::array<Mode, kModes> kAllModes = {
    Mode::null,           Mode::concurrent_read, Mode::concurrent_write,
    Mode::protected_read, Mode::protected_write, Mode::exclusive};

constexpr std::size_t index(Mode mode) {
  return static_cast<std::size_t>(mode);
}
/// "NL", "CR", "CW", "PR", "PW", "EX".
std::string_view name(Mode mode);

/// May two owners hold the modes at once?
bool compatible(Mode a, Mode b);
/// All that `to` allows, and excludes from others, `from` does too: such a conversion needs to ask nobody.
bool is_down_conversion(Mode from, Mode to);
/// The strongest mode that both imply: what an owner surely has while it converts from one to the other.
Mode meet(Mode a, Mode b);
/// May a holder have changed what the lock protects (CW, PW, EX)?
bool writes(Mode mode);

/// What a granted request does with the value block.
enum class ValueTransfer : std::uint8_t {
  none,
  read,   ///< the owner gets the resource's
  write,  ///< the resource gets the owner's
};
/// From nothing (a new lock), to nothing (an unlock), or from mode to mode (a conversion).
ValueTransfer value_transfer(std::optional<Mode> from, std::optional<Mode> to);

}  // namespace corral::dlm
