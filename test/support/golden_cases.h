/// Damages to golden volumes, from the lists that stand beside them: byte patches with what other tools made of them.
#pragma once

#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "disk/disk_image.h"
#include "ondisk/layout.h"
#include "test/support/golden.h"

namespace corral::test {

/// The cases of a list such as "corrupt/cases.jsonl"; none where there is no folder of golden volumes.
inline std::vector<nlohmann::json> golden_cases(const std::string& list) {
  std::vector<nlohmann::json> cases;
  auto folder = golden_folder();
  if (!folder) return cases;
  std::ifstream lines(*folder / list);
  for (std::string line; std::getline(lines, line);)
    cases.push_back(nlohmann::json::parse(line));
  return cases;
}

inline std::vector<std::byte> from_hex(const std::string& text) {
  std::vector<std::byte> bytes;
  for (std::size_t i = 0; i + 1 < text.size(); i += 2)
    bytes.push_back(static_cast<std::byte>(std::stoul(text.substr(i, 2), nullptr, 16)));
  return bytes;
}

/// The volume with the case's damages.
inline DiskImage damaged(DiskImage image, const nlohmann::json& damage) {
  ondisk::Superblock superblock;
  image.read(ondisk::kSuperblockOffsetBytes, std::as_writable_bytes(std::span(&superblock, 1)));
  for (const nlohmann::json& patch : damage.at("patches")) {
    for (const nlohmann::json& zero : patch.value("zero_blocks", nlohmann::json::array())) {
      const std::uint64_t block_size = superblock.block_size;
      image.fill(zero.at(0).get<std::uint64_t>() * block_size, zero.at(1).get<std::uint64_t>() * block_size,
                 std::byte{0});
    }
    if (!patch.contains("offset")) continue;
    const auto offset = patch.at("offset").get<std::uint64_t>();
    const std::vector<std::byte> expected = from_hex(patch.at("old"));
    std::vector<std::byte> found(expected.size());
    image.read(offset, found);
    if (found != expected) throw std::runtime_error("a patch does not fit: " + patch.at("what").get<std::string>());
    image.write(offset, from_hex(patch.at("new")));
  }
  return image;
}

}  // namespace corral::test
