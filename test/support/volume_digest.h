/// A checksum of a volume's contents, to compare with what the kernel made of the same volume.
#pragma once

#include <algorithm>
#include <vector>

#include <zlib.h>

#include "disk/disk_image.h"
#include "offline/journals.h"
#include "ondisk/geometry.h"

namespace corral::test {

/// CRC-32 over all that is not zero, and where it is, outside the journals: these differ in time stamps and in what was
/// logged since.
inline std::uint32_t digest_without_journals(DiskImage image, const ondisk::Geometry& geometry,
                                             const std::vector<OfflineJournal>& journals) {
  for (const OfflineJournal& journal : journals) {
    for (const JournalMap::Extent& extent : journal.map.extents())
      image.fill(geometry.offset_bytes(extent.start), std::uint64_t{extent.length} << geometry.block_shift(),
                 std::byte{0});
  }
  std::uint32_t digest = 0;
  auto add = [&digest](const void* bytes, std::size_t count) {
    digest = static_cast<std::uint32_t>(::crc32(digest, static_cast<const Bytef*>(bytes), static_cast<uInt>(count)));
  };
  std::vector<std::byte> page(4096);
  for (std::uint64_t offset = 0; offset < image.size_bytes(); offset += page.size()) {
    image.read(offset, page);
    if (std::ranges::all_of(page, [](std::byte byte) { return byte == std::byte{0}; })) continue;
    add(&offset, sizeof(offset));
    add(page.data(), page.size());
  }
  return digest;
}

}  // namespace corral::test
