/// The journals of a volume that is not mounted: where they lie, and their replay.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/log.h"
#include "base/result.h"
#include "base/task.h"
#include "journal/journal_map.h"
#include "journal/replay.h"
#include "offline/volume_reader.h"

namespace corral {

/// A file journalN of the jindex directory.
struct OfflineJournal {
  JournalId id;
  BlockNo inode;
  JournalMap map;
  BlockNo local_statfs;  ///< dinode of statfs_changeN
};

/// All journals, in order of their numbers. Errors: corrupt where one has holes or a size that no journal has, where a
/// number is missing, or where statfs_changeN is missing (the kernel does not mount such a volume).
Task<Result<std::vector<OfflineJournal>>> find_journals(const VolumeReader& volume);

/// Those of the journals that can be used, for tools that repair the others; `all` becomes false where there are such.
/// An OfflineJournal may lack its local_statfs (0) here. Errors: the device's.
Task<Result<std::vector<OfflineJournal>>> find_sound_journals(const VolumeReader& volume, bool& all);

/// Where the blocks of a journal lie, whose inode this is. Corrupt: the size is none of a journal, or it has holes.
Task<Result<JournalMap>> map_journal(const VolumeReader& volume, const OfflineInode& inode);

/// The maps alone, as ReplayJob wants them.
std::vector<JournalMap> maps_of(const std::vector<OfflineJournal>& journals);

/// What to replay of an offline volume.
struct OfflineReplayOptions {
  bool dry_run = false;
  std::optional<JournalId> only;  ///< else all
  /// The journal of a mount that is about to write, or of one that died and whose orphans nobody looks for yet. If any
  /// journal is dirty this one is left in use, and is so before another becomes clean: at no moment would a power cut
  /// leave all of them clean.
  std::optional<JournalId> in_use = {};
};

struct OfflineReplay {
  OfflineJournal journal;
  ReplayReport report;
};

/// Replays the journals one after another, in order of their numbers. The first that fails ends it. The totals that
/// nodes have left in their files stay there: see settle_totals().
Task<Result<std::vector<OfflineReplay>>> replay_offline(Executor& executor, const VolumeReader& volume,
                                                        OfflineReplayOptions options, Logger log);

}  // namespace corral
