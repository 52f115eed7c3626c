/// Saving a volume's metadata, for a look at it somewhere else: see corral-image(8).
#pragma once

#include <cstdint>

#include "base/result.h"
#include "base/task.h"
#include "fsck/volume.h"
#include "tools/image/image_file.h"
#include "tools/image/metadata_filter.h"

namespace corral::image {

struct SaveOptions {
  FilterOptions filter;
  /// Read every block that is in use, and take whatever begins as metadata.
  bool scan = false;
  /// Nodes live on the volume; told in the image.
  bool nodes_lived = false;
  std::uint64_t now_seconds = 0;  ///< since 1970
  fsck::Progress progress{};
};

struct SaveReport {
  std::uint32_t block_size = 0;
  std::uint64_t device_bytes = 0;
  std::uint64_t blocks = 0;  ///< in the image
  std::uint64_t inodes = 0;
  std::uint64_t image_bytes = 0;  ///< as written
  std::uint64_t unreadable = 0;   ///< blocks that the device could not give, or not all of
  std::uint64_t findings = 0;     ///< what is damaged, as far as looking for metadata shows
};

/// Reads the device, on which nodes may live, and gives the image to `sink`. What cannot be read is left out and
/// counted. Errors: select_metadata()'s, the device's, the sink's.
Task<Result<SaveReport>> save_metadata(Executor& executor, Device& device, SaveOptions options, ImageWriter::Sink sink);

}  // namespace corral::image
