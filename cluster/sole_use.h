/// Opens a device for a tool that must have the volume for itself, in a whole cluster and not just on this host.
#pragma once

#include <memory>
#include <string>

#include "cluster/observation.h"
#include "disk/event_loop.h"
#include "disk/storage_device.h"

namespace corral::cluster {

/// check_no_node_lives() for whatever is on the device. Success where it holds no cluster area, or none that can be
/// read: there are tools whose business is just that.
Task<Result<>> check_sole_use(Executor& executor, Device& device, SoleUse use);

/// The device, opened exclusively as the options say, after no node was found alive on it. EBUSY with who it is.
Task<Result<std::unique_ptr<StorageDevice>>> open_for_sole_use(EventLoop& loop, std::string name,
                                                               StorageOptions options);

}  // namespace corral::cluster
