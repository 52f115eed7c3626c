/// What the system tells about an open block device or image file: sizes, alignment, discard, write cache.
#pragma once

#include <string>

#include "base/result.h"
#include "disk/device.h"

namespace corral {

/// Geometry of the open descriptor; `name` is for messages. A plain file has 512-byte sectors and what its filesystem
/// calls a good transfer as physical sector; a tail shorter than a sector does not count. Read-only as the device
/// itself says; how it was opened is the caller's knowledge. Fails with ENOTBLK on anything else, or as the ioctl
/// failed.
Result<DeviceGeometry> read_geometry(int descriptor, const std::string& name);

}  // namespace corral
