#include "dlm/mode.h"

#include "base/check.h"

namespace corral::dlm {

namespace {

constexpr bool kCompatible[kModes][kModes] = {
    // NL    CR     CW     PR     PW     EX
    {true, true, true, true, true, true},       // NL
    {true, true, true, true, true, false},      // CR
    {true, true, true, false, false, false},    // CW
    {true, true, false, true, false, false},    // PR
    {true, true, false, false, false, false},   // PW
    {true, false, false, false, false, false},  // EX
};

using enum ValueTransfer;
constexpr ValueTransfer kValueTransfer[kModes + 1][kModes + 1] = {
    // unlock NL  CR     CW     PR     PW     EX     to
    {none, read, read, read, read, read, read},         // new
    {none, read, read, read, read, read, read},         // NL
    {none, none, read, read, read, read, read},         // CR
    {none, none, none, read, read, read, read},         // CW
    {none, none, none, none, read, read, read},         // PR
    {write, write, write, write, write, write, read},   // PW
    {write, write, write, write, write, write, write},  // EX
};

/// Concurrent write and protected read are the only two of which neither implies the other.
constexpr bool incomparable(Mode a, Mode b) {
  return (a == Mode::concurrent_write && b == Mode::protected_read) ||
         (a == Mode::protected_read && b == Mode::concurrent_write);
}

constexpr std::size_t row(std::optional<Mode> mode) {
  return mode ? index(*mode) + 1 : 0;
}

}  // namespace

std::string_view name(Mode mode) {
  constexpr std::array<std::string_view, kModes> kNames = {"NL", "CR", "CW", "PR", "PW", "EX"};
  return kNames[index(mode)];
}

bool compatible(Mode a, Mode b) {
  return kCompatible[index(a)][index(b)];
}

bool is_down_conversion(Mode from, Mode to) {
  return to <= from && !incomparable(from, to);
}

Mode meet(Mode a, Mode b) {
  return incomparable(a, b) ? Mode::concurrent_read : std::min(a, b);
}

bool writes(Mode mode) {
  return mode == Mode::concurrent_write || mode == Mode::protected_write || mode == Mode::exclusive;
}

ValueTransfer value_transfer(std::optional<Mode> from, std::optional<Mode> to) {
  CHECK_INVARIANT(from || to);
  return kValueTransfer[row(from)][row(to)];
}

}  // namespace corral::dlm
