#include "ondisk/checksum.h"

#include <cstring>

#include <boost/crc.hpp>
#include <zlib.h>

namespace corral::ondisk {

namespace {
std::uint32_t zlib_crc(const void* data, std::size_t bytes) {
  return static_cast<std::uint32_t>(::crc32(0, static_cast<const Bytef*>(data), static_cast<uInt>(bytes)));
}
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

std::uint32_t crc32c(std::uint32_t crc, std::span<const std::byte> bytes) {
  // Boost works on the reflected register as given; no final inversion.
  boost::crc_optimal<32, 0x1EDC6F41, 0, 0, true, true> engine;
  using Engine = decltype(engine);
  engine = Engine(crc);
  engine.process_bytes(bytes.data(), bytes.size());
  return engine.checksum();
}

std::uint32_t log_header_crc(std::span<const std::byte> block) {
  return crc32c(0xFFFFFFFFu, block.subspan(offsetof(LogHeader, nanoseconds)));
}

}  // namespace corral::ondisk
