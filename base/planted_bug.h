/// Bugs on purpose, to prove that the simulator finds such: compiled in only where CMake's CORRAL_PLANT_BUGS is on, and
/// then one of them at most is chosen at run time (corral-sim --plant). Elsewhere planted() is false for the compiler,
/// and nothing of it is left in the program.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace corral {

enum class PlantedBug : std::uint8_t {
  none,
  // journal
  skip_flush,              ///< the log's blocks are not flushed before the header that makes them valid
  cached_header,           ///< a log header is not written through
  lost_revoke,             ///< a commit forgets which blocks it revokes
  metadata_before_data,    ///< ordered data is written after the commit that points to it
  early_tail,              ///< the log's tail passes what is not in its place
  replay_ignores_revokes,  ///< replay writes blocks that were freed
  replay_skips_flush,      ///< replay marks the journal clean before what it wrote is stable
  replay_skips_blocks,     ///< replay marks the journal clean and writes nothing
  // fs
  fsync_without_log,     ///< fsync does not commit
  fsync_without_data,    ///< fsync does not write the data
  demote_without_write,  ///< a glock comes down with its changes unwritten
  demote_keeps_cache,    ///< a glock comes down and what it protects stays cached
  dropped_callback,      ///< a node ignores that others want some of its glocks
  stale_append_size,     ///< O_APPEND goes where the file ended before the glock was had
  leaked_block,          ///< of freed blocks one stays marked
  stale_group_counts,    ///< a resource group's header does not count freed blocks
  lost_statfs_change,    ///< freed blocks are not counted in the volume's totals
  forgotten_orphans,     ///< what a dead node had open and unlinked is not freed
  free_in_use,           ///< an unlinked inode is freed while other nodes have it open
  // dlm
  grant_early,             ///< a writer is let in beside readers
  lost_wakeup,             ///< an unlock grants nothing to who waits
  silent_holders,          ///< who holds a lock is not told that others want it
  unblocked_dead,          ///< what a dead node had locked is given on before its journal is replayed
  mistaken_for_recovered,  ///< a node that was taken for dead before it came in counts as recovered when it dies
  unreported_locks,        ///< a new master is not told what the living hold
  // cluster and node
  unfenced_recovery,           ///< a dead node's journal is replayed without its being fenced
  impatient_leader,            ///< a view without a node is made before that node's lease has run out
  unlimited_lease,             ///< a node serves though its heartbeats fail
  skipped_replay,              ///< a dead node counts as recovered, and its journal was not replayed
  first_mounter_skips_replay,  ///< journals are left dirty by who mounts first
  // fence
  pretended_fencing,      ///< fencing does nothing
  fencing_without_abort,  ///< what the fenced node has in flight still lands
};

inline constexpr std::size_t kPlantedBugs = 33;
inline constexpr std::array<std::string_view, kPlantedBugs> kPlantedBugNames = {"none",
                                                                                "skip-flush",
                                                                                "cached-header",
                                                                                "lost-revoke",
                                                                                "metadata-before-data",
                                                                                "early-tail",
                                                                                "replay-ignores-revokes",
                                                                                "replay-skips-flush",
                                                                                "replay-skips-blocks",
                                                                                "fsync-without-log",
                                                                                "fsync-without-data",
                                                                                "demote-without-write",
                                                                                "demote-keeps-cache",
                                                                                "dropped-callback",
                                                                                "stale-append-size",
                                                                                "leaked-block",
                                                                                "stale-group-counts",
                                                                                "lost-statfs-change",
                                                                                "forgotten-orphans",
                                                                                "free-in-use",
                                                                                "grant-early",
                                                                                "lost-wakeup",
                                                                                "silent-holders",
                                                                                "unblocked-dead",
                                                                                "mistaken-for-recovered",
                                                                                "unreported-locks",
                                                                                "unfenced-recovery",
                                                                                "impatient-leader",
                                                                                "unlimited-lease",
                                                                                "skipped-replay",
                                                                                "first-mounter-skips-replay",
                                                                                "pretended-fencing",
                                                                                "fencing-without-abort"};
static_assert(static_cast<std::size_t>(PlantedBug::fencing_without_abort) + 1 == kPlantedBugs);

#if defined(CORRAL_PLANT_BUGS)
/// Which bug is there in this process.
inline PlantedBug planted_bug = PlantedBug::none;
inline bool planted(PlantedBug bug) {
  return planted_bug == bug;
}
#else
constexpr bool planted(PlantedBug) {
  return false;
}
#endif

}  // namespace corral
