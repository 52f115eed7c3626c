/// Always-on assertion for broken invariants of our own: prints the place and aborts. Never for bad input.
#pragma once

#include <source_location>

namespace corral {

[[noreturn]] void check_failed(const char* condition, const std::source_location& where);

}  // namespace corral

#define CHECK_INVARIANT(condition)                                         \
  do {                                                                     \
    if (!(condition)) [[unlikely]]                                         \
      ::corral::check_failed(#condition, std::source_location::current()); \
  } while (false)
