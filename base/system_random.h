/// The system's randomness, for seeds of Random (base/random.h) outside of simulations.
#pragma once

#include <cstdint>

#include <sys/random.h>

namespace corral {

/// Another one each time; 1 where the system gives none.
inline std::uint64_t random_seed() {
  std::uint64_t seed = 0;
  if (getrandom(&seed, sizeof(seed), 0) != sizeof(seed)) return 1;
  return seed;
}

}  // namespace corral
