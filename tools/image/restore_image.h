/// Putting a metadata image back onto a disk, or into an image file.
#pragma once

#include "base/result.h"
#include "base/task.h"
#include "disk/device.h"
#include "fsck/volume.h"
#include "tools/image/image_file.h"

namespace corral::image {

struct RestoreOptions {
  /// The device reads as zeros throughout (a new file): blocks of zeros need not be written.
  bool empty_device = false;
  fsck::Progress progress{};  ///< told the bytes of blocks written; the total is not known
};

/// Reads all of the image and checks it. The reader is new.
Result<Header> verify_image(ImageReader& reader);

/// Writes the image's blocks to the device; all others stay as they are. `reader` is behind its begin(), which gave
/// `header`. The superblock is taken away first and written last, so a device on which this was cut off, or ended with
/// an error, is not taken for a volume. EINVAL, with nothing written, where the device is too small or has larger
/// sectors than the volume has blocks; corrupt where the image is damaged.
Task<Result<>> restore_metadata(Device& device, ImageReader& reader, Header header, RestoreOptions options);

}  // namespace corral::image
