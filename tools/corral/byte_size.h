/// Sizes on the command line and on the screen.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

namespace corral {

/// For an option whose value is a number of bytes: K, M, G, T and so on, with B or iB behind or without, are powers of
/// 1024.
inline CLI::AsSizeValue byte_size() {
  CLI::AsSizeValue size(false);
  size.description("");
  return size;
}

/// "3.2 GiB"
inline std::string describe_bytes(std::uint64_t bytes) {
  constexpr std::array<const char*, 7> kUnits{"bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  auto value = static_cast<double>(bytes);
  std::size_t unit = 0;
  for (; value >= 1024 && unit + 1 < kUnits.size(); ++unit)
    value /= 1024;
  return fmt::format("{:.{}f} {}", value, unit == 0 ? 0 : 1, kUnits[unit]);
}

}  // namespace corral
