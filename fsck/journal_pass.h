/// The journals: replayed before anything else is looked at, and clean afterwards.
#pragma once

#include <set>

#include "base/log.h"
#include "fsck/volume.h"
#include "offline/volume_reader.h"

namespace corral::fsck {

struct JournalOutcome {
  bool dirty = false;            ///< at least one was
  bool usable = true;            ///< all journals were found
  std::set<BlockNo> to_clear{};  ///< dinodes of journals whose contents are damaged; decided
};

/// Looks at all journals that can be found and replays the dirty ones, in the working copy, or with `device` there,
/// once what the working copy holds so far has been committed. Log lines as operators know them go to `log`.
Task<Result<JournalOutcome>> replay_journals(Executor& executor, WorkingCopy& disk, Device* device, Findings& findings,
                                             Logger log);

/// Gives the journal clean headers throughout. The inode is a sound journal; `reader` reads the working copy.
Task<Result<>> clear_journal(Volume& volume, const VolumeReader& reader, BlockNo inode, JournalId id,
                             BlockNo local_statfs, BlockNo local_quota);

}  // namespace corral::fsck
