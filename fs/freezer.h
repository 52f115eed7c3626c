/// Freezing the volume on all nodes, so that a copy of its device, taken meanwhile, is a volume as after an orderly
/// unmount: nothing of it is to be replayed.
///
/// As in GFS2, all who change the volume hold the freeze glock together, and who freezes it takes that exclusively. So
/// each node gives it up, and before that comes to rest (come_to_rest()): what is dirty, the totals and the quota's
/// books are written, and the journal ends like that of a frozen volume. Whatever wants to change something waits for
/// the glock, before it has any other; reading goes on. A node that mounts waits as well.
///
/// The frozen volume belongs to the node that froze it: its unmounting or death thaws (the lock manager gives its locks
/// on once it is recovered; a node that dies has given up the glock and has nothing to be replayed, or had not, and
/// then the volume is frozen only when it is recovered). Another node thaws by asking for the thaw glock, which the one
/// that froze holds shared. Who it is stands in the value of the record glock.
///
/// Work of the background that comes up meanwhile, such as freeing unlinked inodes, waits; access times stay as they
/// are. A journal that ends in this way says that its node may have such work left: whoever mounts the volume first
/// looks for it.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <stop_token>

#include "base/sync.h"
#include "fs/volume.h"

namespace corral {

class Freezer {
 public:
  /// `come_to_rest` writes everything and ends the journal. `self` is this node's journal.
  Freezer(Volume& volume, JournalId self, std::function<Task<Result<>>()> come_to_rest);

  struct Frozen {
    std::optional<JournalId> by;  ///< the journal of the node that froze the volume, as far as is known
    WallTime since;               ///< when it did, or when this node came to rest for it
  };
  /// While the volume is frozen, as far as this node knows without asking; also while it is being frozen.
  const std::optional<Frozen>& frozen() const { return frozen_; }
  bool frozen_here() const { return held_.has_value(); }

  /// At mount, before anything is changed: waits while the volume is frozen, and says so.
  Task<Result<GlockHolder>> enter();
  /// Returns when all nodes have come to rest. EBUSY where it is frozen already, with by whom; ETIMEDOUT where some
  /// node does not come to rest in that time, ECANCELED after a stop: then everything goes on.
  Task<Result<>> freeze(Duration patience, std::stop_token stop = {});
  /// Returns when this node may change the volume again. EINVAL where it is not frozen.
  Task<Result<>> thaw();
  /// What is left to be written at unmount needs the right to change the volume; none where it is frozen and this node
  /// at rest.
  Task<Result<std::optional<GlockHolder>>> change_unless_at_rest();
  /// At unmount: thaws what this node has frozen, and asks for nothing any more.
  Task<void> close();
  /// Lets go of everything where it stands.
  void abandon();

  // GlockKeeper's
  /// The freeze glock is about to be given up.
  Task<Result<>> giving_up();
  void thaw_wanted();

 private:
  struct Held {
    GlockHolder changes;  ///< the freeze glock, exclusive
    GlockHolder requests;
  };
  Task<void> take(std::optional<Result<GlockHolder>>& into, GlockMode mode);
  Task<Result<GlockHolder>> take_exclusively(Duration patience, std::stop_token stop);
  Task<Result<GlockHolder>> record_unless_frozen(GlockMode mode);
  Task<Result<std::optional<Frozen>>> frozen_by_record();
  Task<Result<>> thaw_here();
  Task<void> thaw_here_and_tell();
  Task<void> follow();
  std::string describe(const Frozen& frozen) const;

  Volume& volume_;
  JournalId self_;
  std::function<Task<Result<>>()> come_to_rest_;
  GlockRef changes_;
  GlockRef requests_;
  GlockRef record_;
  std::optional<Held> held_;
  std::optional<Frozen> frozen_;
  Mutex turn_;
  Signal changed_;
  std::unique_ptr<Scope> follower_;
  std::unique_ptr<Scope> thawing_;
};

}  // namespace corral
