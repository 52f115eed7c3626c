/// What the fuzz targets share: the input as a block, and a way to touch bytes so that a sanitizer sees it.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

namespace corral::fuzz {

/// The input in memory of its own, as long as the block it makes: 512 to 4096 bytes, zeros where the input is shorter.
inline std::vector<std::byte> block_of(const std::uint8_t* data, std::size_t size) {
  std::vector<std::byte> block(std::bit_ceil(std::clamp<std::size_t>(size, 512, 4096)));
  if (size > 0) std::memcpy(block.data(), data, std::min(size, block.size()));
  return block;
}

/// Reads every byte.
inline void touch(std::span<const std::byte> bytes) {
  volatile std::uint8_t sum = 0;
  for (std::byte byte : bytes)
    sum = static_cast<std::uint8_t>(sum + static_cast<std::uint8_t>(byte));
}
inline void touch(std::string_view text) {
  touch(std::as_bytes(std::span(text)));
}

}  // namespace corral::fuzz
