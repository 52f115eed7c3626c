/// Numbers that whoever runs the tests may choose: seeds, counts.
#pragma once

#include <cstdint>
#include <cstdlib>

namespace corral::test {

/// Decimal, or hexadecimal with 0x; `otherwise` where the variable is not set.
inline std::uint64_t number_from_environment(const char* variable, std::uint64_t otherwise) {
  const char* text = std::getenv(variable);
  return text != nullptr ? std::strtoull(text, nullptr, 0) : otherwise;
}

}  // namespace corral::test
