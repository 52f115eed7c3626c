// The input is an entry of the rindex and the resource group's first block.
#include "ondisk/checksum.h"
#include "ondisk/validate.h"
#include "test/fuzz/input.h"

using namespace corral;
using namespace corral::ondisk;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr std::uint64_t kVolumeBlocks = std::uint64_t{1} << 32;
  ResourceGroupIndexEntry entry{};
  if (size < sizeof(entry)) return 0;
  std::memcpy(&entry, data, sizeof(entry));
  auto block = fuzz::block_of(data + sizeof(entry), size - sizeof(entry));
  const Geometry geometry(static_cast<std::uint32_t>(block.size()));
  if (!check_rindex_entry(entry, 0, geometry, kVolumeBlocks)) return 0;
  CHECK_INVARIANT(entry.addr + entry.length <= entry.data0 && entry.data0 + entry.data <= kVolumeBlocks);
  auto& group = view<ResourceGroup>(block);
  if (!check_rgrp(block, entry)) {
    group.crc = rgrp_crc(group);
    if (!check_rgrp(block, entry)) return 0;
  }
  CHECK_INVARIANT(group.free <= entry.data);
  return 0;
}
