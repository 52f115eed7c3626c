#include "ondisk/checksum.h"

#include <cstring>
#include <string_view>

#include "test/support/catch.h"

using namespace corral::ondisk;

namespace {
std::span<const std::byte> bytes_of(std::string_view text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}
/// CRC-32C a bit at a time.
std::uint32_t slow_crc32c(std::span<const std::byte> bytes) {
  std::uint32_t crc = ~0u;
  for (std::byte byte : bytes) {
    crc ^= static_cast<std::uint32_t>(byte);
    for (int bit = 0; bit < 8; ++bit)
      crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82F63B78u : 0);
  }
  return ~crc;
}
}  // namespace

TEST_CASE("CRC-32C gives the published check values") {
  CHECK(crc32c({}) == 0);
  CHECK(crc32c(bytes_of("123456789")) == 0xE3069283);
  std::array<std::byte, 32> zeros{};
  CHECK(crc32c(zeros) == 0x8A9136AA);
}

TEST_CASE("CRC-32C does not depend on length or alignment of the bytes") {
  std::array<std::byte, 80> bytes;
  for (std::size_t i = 0; i < bytes.size(); ++i)
    bytes[i] = static_cast<std::byte>(i * 37 + 11);
  for (std::size_t from = 0; from < 9; ++from) {
    for (std::size_t length = 0; length < 40; ++length) {
      auto part = std::span(bytes).subspan(from, length);
      REQUIRE(crc32c(part) == slow_crc32c(part));
    }
  }
}

TEST_CASE("the directory hash is zlib's CRC-32") {
  CHECK(name_hash("123456789") == 0xCBF43926);
}

TEST_CASE("checksum fields do not sum themselves") {
  ResourceGroup group{};
  group.header.set(MetaType::resource_group);
  const std::uint32_t group_crc = rgrp_crc(group);
  group.crc = 77;
  CHECK(rgrp_crc(group) == group_crc);
  group.free = 1;
  CHECK(rgrp_crc(group) != group_crc);

  std::array<std::byte, 512> block{};
  auto& header = view<LogHeader>(block);
  header.header.set(MetaType::log_header);
  const std::uint32_t hash = log_header_hash(header);
  const std::uint32_t crc = log_header_crc(block);
  header.hash = 5;
  header.crc = 6;
  CHECK(log_header_hash(header) == hash);
  CHECK(log_header_crc(block) == crc);
  block[511] = std::byte{1};
  CHECK(log_header_hash(header) == hash);
  CHECK(log_header_crc(block) != crc);
}
