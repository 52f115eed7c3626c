/// This process as one node of a cluster: joins through the cluster area, keeps the view, runs the lock manager, has
/// the dead fenced and their journals replayed, and leaves. What a mount of a shared volume needs beside the
/// filesystem.
///
/// The story of a life:
///
///   join()       Membership claims a slot (its number is that of the journal) and comes into a view. Each view goes to
///                the lock manager, with all who are gone and not known to be recovered. The first member of all
///                replays every dirty journal of the volume before it asks for any lock and before others are let in.
///   serving      The filesystem takes its glocks from lock_space(), and processes their locks on files from
///                file_locks(). They are certain while the node holds its lease: when heartbeats fail, requests wait,
///                and go on or fail as the disk says.
///   a node dies  The leader of the view, the lowest member that lives, has it fenced and waits until its lease has run
///                out. The leader's node then replays the journal on the disk, beside the mount (replay()), holding
///                locks that pass those of the dead; tells the filesystem what was changed under its caches; and tells
///                membership, which frees the slot. Every node that sees the slot free lets the lock manager give the
///                dead one's locks on. If the leader dies meanwhile, the next one begins again: replaying is
///                idempotent.
///   leave()      After the filesystem has let go of everything: out of the view in order, then the key is given up.
///   the end      Fenced, removed or failed: the locks are void at once, the filesystem is told to withdraw (on_lost),
///                and nothing is sent any more. Another ClusterNode may come after it, as a new incarnation; the host
///                stays up.
///
/// One thread. Everything waits by coroutines on the executor; destroying the node is its death.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "base/log.h"
#include "base/random.h"
#include "base/sync.h"
#include "cluster/membership.h"
#include "disk/write_gate.h"
#include "dlm/lock_manager.h"
#include "fs/filesystem.h"
#include "node/dlm_file_locks.h"
#include "node/dlm_lock_space.h"
#include "node/recovery_report.h"

namespace corral {

class ClusterNode final : private cluster::MembershipUser, private cluster::LinkProvider, private Lease {
 public:
  /// All outlive the node.
  struct Environment {
    Executor& executor;
    Device& volume;     ///< from which journals are replayed; writes to it go through `writes`
    WriteGate& writes;  ///< through which the filesystem writes: held while the lease has run out, shut with the node
    cluster::LinkProvider& links;
    cluster::Fencer& fencer;
    LogSink& log;
  };

  ClusterNode(Environment environment, cluster::ClusterArea area, cluster::Header header, cluster::NodeOptions options,
              Random random);
  ~ClusterNode() override;

  /// Returns when this node is a member and its lock manager runs; the volume's journals are clean or being recovered.
  /// Errors: why it was not let in, or what could not be replayed.
  Task<Result<>> join();
  /// After join().
  LockSpace& lock_space() { return *lock_space_; }
  FileLocks& file_locks() { return *file_locks_; }
  dlm::LockManager& lock_manager() { return *lock_manager_; }
  const dlm::LockManager& lock_manager() const { return *lock_manager_; }
  JournalId journal() const { return JournalId(membership_self_.node.value); }
  /// Why it is no member any more.
  const std::optional<Error>& end_reason() const { return ended_; }
  Member self() const { return membership_self_; }
  /// Null while the node is not (or no more) in the cluster.
  const cluster::Membership* membership() const { return membership_.get(); }
  const std::set<Member>& unrecovered() const { return unrecovered_; }

  /// The mounted filesystem, to be told of journals that were replayed. It is taken away before it is unmounted.
  void set_filesystem(Filesystem& filesystem);
  /// Returns when no replay that is under way counts on the filesystem.
  Task<void> take_filesystem_away();
  /// Called once, on the loop's thread, when the node is a member no more without having left: nothing may be served,
  /// nothing written. Not from within any call of the node's.
  std::function<void(const Error& reason)> on_lost;
  /// The lease has run out, and it is not known yet whether the node is lost: what was granted may be others' by now.
  std::function<void()> on_uncertain;

  /// Told of what concerns operators, for their hooks: its name, and a JSON object (recovery_report.h). Must not wait.
  std::function<void(std::string event, std::string json)> on_event;

  /// The filesystem has withdrawn: the node ends as if it had died, and the others recover its journal.
  void fail(const Error& reason);
  /// Leaves in order, after the filesystem was unmounted. Gives up after three failure timeouts; the others then take
  /// the node for dead, and find its journal clean.
  Task<void> leave();

 private:
  // MembershipUser
  void view_installed(const cluster::ViewInstalled& event) override;
  void fenced(Member victim, const cluster::FencingTimes& times) override;
  void recover(Member dead) override;
  void node_recovered(Member gone) override;
  void ended(const cluster::MembershipEnded& event) override;
  void lease_renewed() override { changed_.notify_all(); }
  // LinkProvider: the lock manager's end of the links opens along with membership's.
  Link& open(Member self) override;
  void set_peers(std::vector<cluster::Peer> peers) override { environment_.links.set_peers(std::move(peers)); }
  void close() override;
  // Lease
  bool certain() const override;
  Task<bool> wait_until_certain() override;

  std::string name_of(Member member) const;
  void tell_event(const std::string& event, Member about, const std::string& detail);
  RecoveryReport& recovery_of(Member dead);
  void note_left_out(Member gone, bool this_node_recovers);
  Task<void> replay_all();
  Task<void> recover_until_done(Member dead);
  Task<Result<ReplayReport>> replay_for_filesystem(JournalId journal);
  Task<Result<ReplayReport>> replay(JournalId journal, bool stays_in_use);
  Task<void> maintain_fencing();
  Task<Result<>> wait_until_fenced(Member dead);
  Task<void> watch_lease();
  std::optional<Error> stranger_in_view() const;
  std::vector<std::uint64_t> keys_of_slots(bool members) const;
  void end(const Error& reason);
  Task<void> tell_lost(Error reason);

  Environment environment_;
  cluster::ClusterArea area_;
  cluster::Header header_;
  cluster::NodeOptions options_;
  Random random_;
  Logger log_;
  Member membership_self_{};
  bool joined_ = false;
  std::optional<Error> ended_;  ///< why it is no member any more
  bool left_ = false;
  std::set<Member> unrecovered_;
  std::map<Member, RecoveryReport> recoveries_;  ///< under way, of nodes that failed
  Event journals_replayed_;                      ///< by the first member; at once by others
  bool orphans_left_ = false;                    ///< a journal was replayed while no filesystem was mounted
  Filesystem* filesystem_ = nullptr;
  Gate filesystem_stays_;  ///< closed from before the unmounting on
  Signal changed_;
  std::unique_ptr<dlm::LockManager> lock_manager_;
  std::unique_ptr<DlmLockSpace> lock_space_;
  std::unique_ptr<DlmFileLocks> file_locks_;
  std::unique_ptr<Scope> work_;
  std::unique_ptr<cluster::Membership> membership_;
};

}  // namespace corral
