/// The volume's totals (struct gfs2_statfs_change): the file statfs plus what each node has counted and not moved there
/// yet, which stands in its statfs_changeN.
#pragma once

#include "base/log.h"
#include "base/result.h"
#include "base/task.h"
#include "offline/volume_reader.h"

namespace corral {

/// Moves what all nodes have left in their files into the file statfs, as the kernel does when it has replayed a
/// journal; all or nothing, wherever it is cut off. A line for each journal, as GFS2 has it, goes to the log.
///
/// Not part of a journal's replay: the file statfs itself may stand in another journal that has not been replayed yet,
/// and that replay would undo the sum. So all journals are clean (EBUSY) and nobody uses the volume.
///
/// Damaged files are left alone, with a warning: the totals are only a figure for df. Errors: the device's; corrupt
/// where journals cannot be found.
Task<Result<>> settle_totals(Executor& executor, const VolumeReader& volume, Logger log);

}  // namespace corral
