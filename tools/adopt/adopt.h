/// Taking a GFS2 volume into our care, and giving it back: adding and removing the cluster area, keeping every file.
///
/// The area's file is added and removed in one transaction, and the superblock's lock protocol changes in one sector;
/// in between the volume is a sound lock_dlm volume with a file more, which the kernel and fsck.gfs2 do not mind. So a
/// cut at any moment (followed by a replay of journal 0, as every mount makes it) leaves nothing half done, and the
/// same command can be given again.
#pragma once

#include <string>

#include "base/log.h"
#include "base/result.h"
#include "base/task.h"
#include "cluster/area.h"
#include "disk/device.h"

namespace corral {

/// Who asks, and when.
struct AdoptionContext {
  Executor& executor;
  Device& device;
  WallTime now;
  Logger log;
};

/// Adds a cluster area with `header` to a volume of any lock protocol, and sets lock_corral; an area that is there
/// already is kept. EBUSY: a journal is dirty, or a node lives; EEXIST: it is ours already; EINVAL: the volume has no
/// lock table (CLUSTER:NAME) and `lock_table` is empty; ENOSPC.
Task<Result<>> adopt_volume(AdoptionContext context, cluster::Header header, std::string lock_table);

/// Sets `lock_protocol` (lock_dlm or lock_nolock) and removes the cluster area. EBUSY: a journal is dirty, or a node
/// lives; EINVAL: the volume has no cluster area and is not ours.
Task<Result<>> release_volume(AdoptionContext context, std::string lock_protocol);

}  // namespace corral
