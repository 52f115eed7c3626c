/// How the space of a volume is used, by resource group: what `corral df` shows. From the disk, past every cache.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/result.h"
#include "base/task.h"
#include "fs/bitmap.h"
#include "offline/volume_reader.h"

namespace corral {

struct GroupSpace {
  ondisk::ResourceGroupIndexEntry entry;
  std::uint32_t free = 0;     ///< blocks, as the header counts them
  std::uint32_t dinodes = 0;  ///< as the header counts them
  /// From the bitmap, where it was looked at.
  StateCounts counts;
  std::uint32_t free_runs = 0;     ///< runs of free blocks
  std::uint32_t longest_free = 0;  ///< blocks of the longest of them
};

/// All bytes of a group's bitmap, which begins in its header's block and goes on in those behind it.
Task<Result<std::vector<std::byte>>> read_bitmap(const VolumeReader& volume, ondisk::ResourceGroupIndexEntry entry);

/// Every resource group, in the order of the rindex file; with `bitmaps`, its bitmap is read, too.
Task<Result<std::vector<GroupSpace>>> measure_space(const VolumeReader& volume, bool bitmaps);

}  // namespace corral
