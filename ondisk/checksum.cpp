#include "ondisk/checksum.h"

#include <array>
#include <cstring>

#include <zlib.h>

namespace corral::ondisk {

namespace {
std::uint32_t zlib_crc(const void* data, std::size_t bytes) {
  return static_cast<std::uint32_t>(::crc32(0, static_cast<const Bytef*>(data), static_cast<uInt>(bytes)));
}

// A journal's log headers are summed block by block: eight bytes a step ("slicing by 8") instead of one.
constexpr std::size_t kSlices = 8;
using Crc32cTables = std::array<std::array<std::uint32_t, 256>, kSlices>;

constexpr Crc32cTables make_crc32c_tables() {
  constexpr std::uint32_t kReflectedPolynomial = 0x82F63B78;
  Crc32cTables tables{};
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    std::uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit)
      crc = (crc >> 1) ^ ((crc & 1) != 0 ? kReflectedPolynomial : 0);
    tables[0][byte] = crc;
  }
  for (std::size_t slice = 1; slice < kSlices; ++slice) {
    for (std::size_t byte = 0; byte < 256; ++byte) {
      std::uint32_t before = tables[slice - 1][byte];
      tables[slice][byte] = (before >> 8) ^ tables[0][before & 0xFF];
    }
  }
  return tables;
}
constexpr Crc32cTables kCrc32cTables = make_crc32c_tables();
}  // namespace

std::uint32_t name_hash(std::string_view name) {
  return zlib_crc(name.data(), name.size());
}

std::uint32_t rgrp_crc(const ResourceGroup& group) {
  ResourceGroup copy = group;
  copy.crc = 0;
  return zlib_crc(&copy, sizeof(copy));
}

std::uint32_t log_header_hash(const LogHeader& header) {
  LogHeader copy = header;
  copy.hash = 0;
  return zlib_crc(&copy, offsetof(LogHeader, crc));
}

std::uint32_t crc32c(std::span<const std::byte> bytes) {
  std::uint32_t crc = ~0u;
  std::size_t at = 0;
  for (; bytes.size() - at >= kSlices; at += kSlices) {
    std::uint64_t eight;
    std::memcpy(&eight, bytes.data() + at, sizeof(eight));
    eight ^= crc;
    crc = 0;
    for (std::size_t i = 0; i < kSlices; ++i)
      crc ^= kCrc32cTables[kSlices - 1 - i][(eight >> (8 * i)) & 0xFF];
  }
  for (; at < bytes.size(); ++at)
    crc = (crc >> 8) ^ kCrc32cTables[0][(crc ^ static_cast<std::uint32_t>(bytes[at])) & 0xFF];
  return ~crc;
}

std::uint32_t log_header_crc(std::span<const std::byte> block) {
  return ~crc32c(block.subspan(offsetof(LogHeader, nanoseconds)));
}

}  // namespace corral::ondisk
