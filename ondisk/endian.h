/// Big-endian integers as they stand in GFS2's blocks: byte arrays without alignment, read and assigned as native
/// numbers.
#pragma once

#include <array>
#include <bit>
#include <concepts>
#include <cstdint>

namespace corral::ondisk {

template <std::unsigned_integral Integer>
class BigEndian {
 public:
  constexpr BigEndian() = default;
  constexpr BigEndian(Integer value) : bytes_(std::bit_cast<Bytes>(std::byteswap(value))) {}
  constexpr operator Integer() const { return std::byteswap(std::bit_cast<Integer>(bytes_)); }
  constexpr Integer value() const { return *this; }

 private:
  static_assert(std::endian::native == std::endian::little);
  using Bytes = std::array<std::uint8_t, sizeof(Integer)>;
  Bytes bytes_{};
};

using be16 = BigEndian<std::uint16_t>;
using be32 = BigEndian<std::uint32_t>;
using be64 = BigEndian<std::uint64_t>;

}  // namespace corral::ondisk
