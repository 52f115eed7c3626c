/// A device of the real world, as it is opened by name (open_device.h): one that must be closed.
#pragma once

#include "base/task.h"
#include "disk/device.h"

namespace corral {

struct StorageOptions {
  bool read_only = false;
  /// Refuse a device that is in use, and refuse it to others on this host.
  bool exclusive = true;
  /// The claim on a block device is held already, by this process's own mount in the kernel.
  bool claimed = false;
  /// An image file that other processes of this host, nodes of the same cluster, use at the same time: refused only
  /// where somebody uses it alone.
  bool shared_file = false;
  /// Operations with the device at a time; more wait their turn.
  unsigned queue_depth = 128;
};

class StorageDevice : public Device {
 public:
  /// Gives up the exclusive use of a block device, for a mount in the kernel that takes it over (type fuseblk).
  virtual void release_claim() {}
  /// Takes no more operations (ESHUTDOWN) and returns when all have completed. Flushes nothing.
  virtual Task<void> close() = 0;
};

}  // namespace corral
