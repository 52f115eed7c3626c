#include "test/sim/cluster/trace.h"

#include <cstring>

namespace corral::sim {

std::uint64_t digest(std::string_view bytes, std::uint64_t start) {
  std::uint64_t hash = start ^ (bytes.size() * 0x9E3779B97F4A7C15u);
  auto mix = [&hash](std::uint64_t word) {
    const __uint128_t product = static_cast<__uint128_t>(hash ^ word) * 0xD6E8FEB86659FD93u;
    hash = static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64) ^ (word << 1);
  };
  std::uint64_t word = 0;
  while (bytes.size() >= sizeof(word)) {
    std::memcpy(&word, bytes.data(), sizeof(word));
    mix(word);
    bytes.remove_prefix(sizeof(word));
  }
  word = 0x80;
  if (!bytes.empty()) std::memcpy(&word, bytes.data(), bytes.size());
  mix(word);
  mix(0xA0761D6478BD642Fu);
  return hash;
}

void Trace::absorb(std::string_view text) {
  hash_ = digest(text, hash_);
  ++lines_;
  if (out_ != nullptr) std::fwrite(text.data(), 1, text.size(), out_);
}

}  // namespace corral::sim
