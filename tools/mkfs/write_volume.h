/// Writes a planned volume to a device.
#pragma once

#include <cstdint>
#include <functional>

#include "base/result.h"
#include "base/task.h"
#include "disk/device.h"
#include "tools/mkfs/volume_image.h"

namespace corral::mkfs {

enum class WritePhase { discarding, writing };

struct WriteOptions {
  bool discard = true;  ///< tell the device first that its contents are not needed; ignored where it cannot
  /// Told now and then how far a phase is; may be empty.
  std::function<void(WritePhase, std::uint64_t done_bytes, std::uint64_t total_bytes)> progress{};
};

/// Afterwards the volume is complete and stable. What the device held before is gone from the first moment on: its
/// first 64 KiB and superblock are zeroed before anything else, and the new superblock comes last, so a volume that was
/// interrupted half-way is none. Suspends. The references stay valid until it ends.
Task<Result<>> write_volume(Executor& executor, Device& device, const VolumeImage& image, WriteOptions options = {});

/// Plans and writes in one step, for tests: errors as VolumeImage::plan() and the device give them.
Task<Result<>> format_device(Executor& executor, Device& device, FormatOptions options);

}  // namespace corral::mkfs
