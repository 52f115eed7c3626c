/// Golden images as simulated disks.
#pragma once

#include <map>
#include <optional>
#include <stdexcept>
#include <string>

#include "disk/disk_image.h"
#include "test/support/golden.h"

namespace corral::test {

/// A golden image in memory; unpacked once. Nothing where there is no folder of golden volumes.
inline std::optional<DiskImage> golden_disk(const std::string& name) {
  static std::map<std::string, DiskImage> unpacked;
  auto known = unpacked.find(name);
  if (known == unpacked.end()) {
    std::optional<GoldenImage> image = GoldenImage::unpack(name);
    if (!image) return std::nullopt;
    Result<DiskImage> disk = DiskImage::load(image->path());
    if (!disk) throw std::runtime_error(disk.error().describe());
    known = unpacked.emplace(name, *std::move(disk)).first;
  }
  return known->second;
}

}  // namespace corral::test
