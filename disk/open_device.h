/// The one place that knows which names mean which kind of device.
#pragma once

#include <memory>
#include <string>

#include "disk/event_loop.h"
#include "disk/storage_device.h"

namespace corral {

/// True for the path of a block device or image file, false for a name of another kind (iscsi://...).
bool names_path(const std::string& name);

/// The name as it holds from any folder: an absolute path, free of symbolic links, or the name as it is. Errors: what
/// is wrong with it, as far as that is seen without opening the device; ENOTBLK for what is neither a block device nor
/// a file.
Result<std::string> absolute_device_name(const std::string& name);

/// Opens a block device, an image file or a LUN behind iSCSI (see uring_device.h, iscsi_name.h).
Task<Result<std::unique_ptr<StorageDevice>>> open_device(EventLoop& loop, std::string name,
                                                         StorageOptions options = {});

}  // namespace corral
