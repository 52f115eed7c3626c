/// Replays a journal: brings the volume to the state of the last committed transaction and leaves the journal clean.
///
/// Order: the log is read and checked entirely, so a damaged one leads to an error before anything is written; the
/// newest state of each block that was not revoked is written in place, in disk order; the device is flushed; a header
/// that leaves the log empty is written through behind the head. Cut off at any point, a further replay gives the same
/// volume, and so do the replays of several journals in any order, for no block stands in two of them.
///
/// What the node had counted and not moved to the file statfs stays in its statfs_changeN: whoever uses the journal
/// next goes on from there, and those who use the volume move it along (Filesystem, settle_totals()).
///
/// The caller sees to it that nobody else writes to the journal or to the blocks in it: the node whose journal it is
/// has been fenced, or it is this node's own before it is used, or the volume is offline. Nothing of the volume may be
/// cached.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>

#include "base/clock.h"
#include "base/log.h"
#include "base/result.h"
#include "base/task.h"
#include "journal/log_head.h"
#include "journal/log_scan.h"

namespace corral {

/// How a replay leaves the journal. One in use is empty, but not as after an orderly end: a mount that dies before it
/// has written anything is then known to have been there, and what it was to clear away is looked for.
enum class JournalUse {
  none,      ///< clean
  if_dirty,  ///< in use if it was dirty
  always,    ///< in use, also if it was clean
};

/// What to replay. All that it names outlives the replay.
struct ReplayJob {
  JournalAccess journal;
  JournalId id;
  BlockNo inode;                         ///< dinode of the journal
  std::uint64_t volume_blocks = 0;       ///< size of the device
  std::span<const JournalMap> journals;  ///< all of the volume's: a logged block never belongs to one
  BlockNo local_statfs;                  ///< dinode of the journal's statfs_changeN
  bool dry_run = false;                  ///< only look: nothing is written, the journal stays as it is
  JournalUse afterwards = JournalUse::none;
  /// Called once when the journal is dirty, before anything is written.
  std::function<Task<Result<>>()> before_writing = {};
  Logger log;
};

struct ReplayTimes {
  Duration head{};   ///< finding the head
  Duration scan{};   ///< reading the log
  Duration write{};  ///< writing in place, and the clean header
  Duration total() const { return head + scan + write; }
};

/// What was found and done.
struct ReplayReport {
  JournalHead head;  ///< as it was found
  LogPlan plan;      ///< empty for a clean journal
  ReplayTimes times;
  bool replayed = false;  ///< false: the journal was clean, or it was a dry run
  /// Where the log goes on: the block behind the newest header, and the sequence of the header to come.
  std::uint32_t next_block = 0;
  std::uint64_t next_sequence = 0;
};

/// Looks at the journal and replays it unless it is clean; writes the lines that GFS2's operators know to the log.
/// Errors: corrupt (the volume must not be mounted before fsck), or the device's.
Task<Result<ReplayReport>> replay_journal(ReplayJob job);

}  // namespace corral
