/// Numbers that whoever runs the tests may choose: seeds, counts.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <random>

namespace corral::test {

/// Decimal, or hexadecimal with 0x; `otherwise` where the variable is not set.
inline std::uint64_t number_from_environment(const char* variable, std::uint64_t otherwise) {
  const char* text = std::getenv(variable);
  return text != nullptr ? std::strtoull(text, nullptr, 0) : otherwise;
}

/// The seed of a random test: CORRAL_SEED, or another one each time.
inline std::uint64_t fresh_seed() {
  return number_from_environment("CORRAL_SEED", std::random_device{}());
}

}  // namespace corral::test
