#include "node/cluster_node.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/planted_bug.h"
#include "offline/volume_reader.h"

namespace corral {

using cluster::Membership;
using cluster::MembershipEnded;

ClusterNode::ClusterNode(Environment environment, cluster::ClusterArea area, cluster::Header header,
                         cluster::NodeOptions options, Random random)
    : environment_(environment),
      area_(area),
      header_(header),
      options_(std::move(options)),
      random_(random),
      log_(environment.log, "node " + options_.name + ": "),
      journals_replayed_(environment.executor),
      filesystem_stays_(environment.executor),
      changed_(environment.executor),
      work_(std::make_unique<Scope>(environment.executor)) {}

ClusterNode::~ClusterNode() {
  joined_ = false;  // there is nobody to tell
  end(Error(ESHUTDOWN, "the node was taken down"));
  membership_.reset();
  work_.reset();
}

Task<Result<>> ClusterNode::join() {
  CHECK_INVARIANT(!membership_);
  membership_ = std::make_unique<Membership>(
      Membership::Environment{environment_.executor, area_, environment_.fencer, *this, *this, log_}, header_, options_,
      random_.split());
  while (!ended_ && !journals_replayed_.is_set())
    co_await changed_.wait();
  if (!ended_) static_cast<void>(co_await lock_manager_->wait_until_running());
  if (ended_) co_return std::unexpected(*ended_);
  joined_ = true;
  if (std::optional<Error> stranger = stranger_in_view()) {
    co_await leave();
    co_return std::unexpected(*std::move(stranger));
  }
  work_->spawn(maintain_fencing());
  work_->spawn(watch_lease());
  tell_event("join", membership_self_, {});
  co_return Result<>{};
}

void ClusterNode::set_filesystem(Filesystem& filesystem) {
  filesystem_ = &filesystem;
  if (std::exchange(orphans_left_, false)) filesystem_->reclaim_orphans();
}

Task<void> ClusterNode::take_filesystem_away() {
  co_await filesystem_stays_.close();
  filesystem_ = nullptr;
}

Link& ClusterNode::open(Member self) {
  // Before the first view a slot may be given up for another.
  CHECK_INVARIANT(!joined_);
  file_locks_.reset();
  lock_space_.reset();
  lock_manager_.reset();
  membership_self_ = self;
  Link& link = environment_.links.open(self);
  lock_manager_ = std::make_unique<dlm::LockManager>(environment_.executor, link, dlm::Limits{}, log_);
  Lease& lease = *this;
  lock_space_ = std::make_unique<DlmLockSpace>(environment_.executor, *lock_manager_, lease, log_);
  file_locks_ = std::make_unique<DlmFileLocks>(*lock_manager_, lease);
  return link;
}

void ClusterNode::close() {
  if (lock_manager_) lock_manager_->leave_cluster();
  environment_.links.close();
}

void ClusterNode::view_installed(const cluster::ViewInstalled& event) {
  if (ended_) return;
  const bool leads = event.view.members.front() == membership_self_;
  for (const Member& member : event.gone) {
    unrecovered_.insert(member);
    if (!event.first) note_left_out(member, leads);
  }
  View view = event.view;
  view.unrecovered.assign(unrecovered_.begin(), unrecovered_.end());
  lock_manager_->enter_view(view);
  if (event.first) {
    work_->spawn(replay_all());
  } else {
    journals_replayed_.set();
  }
  changed_.notify_all();
}

std::string ClusterNode::name_of(Member member) const {
  if (member == membership_self_) return options_.name;
  const cluster::Slot* slot = membership_ ? membership_->core().monitor().slot(member.node) : nullptr;
  return slot != nullptr && slot->member() == member ? slot->name : member.describe();
}

void ClusterNode::tell_event(const std::string& event, Member about, const std::string& detail) {
  const std::string json = describe_event(event, about, name_of(about), options_.name, detail);
  log_.info("event {}", json);
  if (on_event) on_event(event, json);
}

/// The slot is somebody else's when the recovery is over.
RecoveryReport& ClusterNode::recovery_of(Member dead) {
  auto [place, is_new] = recoveries_.try_emplace(dead);
  if (is_new) place->second.name = name_of(dead);
  return place->second;
}

/// A node that fell silent has failed; one that still writes its slot is leaving in order.
void ClusterNode::note_left_out(Member gone, bool this_node_recovers) {
  log_.info("closing connection to node {}", name_of(gone));
  if (membership_->core().monitor().life(gone.node) == cluster::Life::alive) return;
  recovery_of(gone).left_out = environment_.executor.now();
  log_.info("jid={}: Trying to acquire journal lock...", gone.node.value);
  if (!this_node_recovers) log_.info("jid={}: Busy, waiting for its replay by another node...", gone.node.value);
}

void ClusterNode::fenced(Member victim, const cluster::FencingTimes& times) {
  recovery_of(victim).fencing = times;
  tell_event("fenced", victim, {});
}

void ClusterNode::recover(Member dead) {
  if (!ended_) work_->spawn(recover_until_done(dead));
}

void ClusterNode::node_recovered(Member gone) {
  unrecovered_.erase(gone);
  if (lock_manager_) lock_manager_->recovered(gone);
  const auto recovery = recoveries_.extract(gone);
  if (!recovery) return;
  if (!recovery.mapped().replayed) return log_.info("jid={}: Done, replayed by another node", gone.node.value);
  const std::string json = describe_recovery(recovery.mapped(), gone, options_.name, environment_.executor.now());
  log_.info("event {}", json);
  if (on_event) on_event("recovered", json);
}

/// As the first member, with nobody else in the cluster and no lock held by anybody. The own journal says from now on
/// that there may be inodes to free and totals to add up, until a mount has seen to that.
Task<void> ClusterNode::replay_all() {
  Result<std::vector<OfflineReplay>> replays;
  auto reader = co_await VolumeReader::open(environment_.volume);
  if (reader && planted(PlantedBug::first_mounter_skips_replay)) {
    replays = std::vector<OfflineReplay>{};
  } else if (reader) {
    OfflineReplayOptions how;
    how.in_use = journal();
    replays = co_await replay_offline(environment_.executor, *reader, how, log_);
  } else {
    replays = std::unexpected(reader.error());
  }
  if (!replays) {
    co_await environment_.executor.yield();
    fail(replays.error());
    co_return;
  }
  journals_replayed_.set();
  if (membership_) membership_->journals_replayed();
  changed_.notify_all();
}

/// The target may have restarted since and have forgotten it. EBADE: this node is fenced itself.
Task<Result<>> ClusterNode::wait_until_fenced(Member dead) {
  Result<> fenced = co_await environment_.fencer.verify(dead);
  while (!fenced && fenced.error().code() != EBADE) {
    if (ended_) co_return std::unexpected(*ended_);
    log_.warning("{} can write again, its journal is not replayed yet: {}", dead.describe(), fenced.error().describe());
    co_await environment_.executor.sleep_for(membership_->core().timing().heartbeat_interval);
    if (ended_) co_return std::unexpected(*ended_);
    fenced = co_await environment_.fencer.fence(dead);
  }
  co_return fenced;
}

Task<void> ClusterNode::recover_until_done(Member dead) {
  co_await journals_replayed_.wait();
  if (Result<> running = co_await lock_manager_->wait_until_running(); !running) co_return;
  recovery_of(dead).locks_running = environment_.executor.now();
  if (Result<> fenced = co_await wait_until_fenced(dead); !fenced) {
    co_await environment_.executor.yield();
    fail(fenced.error().within("this node was fenced"));
    co_return;
  }
  while (!planted(PlantedBug::skipped_replay)) {
    auto report = co_await replay_for_filesystem(JournalId(dead.node.value));
    if (report) {
      recovery_of(dead).note(*report, environment_.executor.now());
      break;
    }
    log_.error("cannot replay the journal of {}: {}; what it had locked stays locked, trying again", dead.describe(),
               report.error().describe());
    co_await environment_.executor.sleep_for(std::chrono::milliseconds(header_.settings.failure_timeout_ms));
  }
  log_.info("recovered {}", dead.describe());
  if (membership_) membership_->recovered(dead);
  // One that was in no view is nobody's to wait for.
  if (!unrecovered_.contains(dead)) recoveries_.erase(dead);
}

/// What the dead node was to free the filesystem frees, once it is mounted. Where it may never be (again) the journal
/// is left in use, by which whoever mounts with it next knows that there is something to look for.
Task<Result<ReplayReport>> ClusterNode::replay_for_filesystem(JournalId journal) {
  const std::optional<Gate::Pass> pass = filesystem_stays_.enter();
  const bool mounted = pass && filesystem_ != nullptr;
  CO_TRY(ReplayReport report, co_await replay(journal, !mounted));
  if (pass && filesystem_ != nullptr)
    filesystem_->journal_recovered(report);
  else
    orphans_left_ = true;
  co_return report;
}

/// The lock is of the node's own beside the filesystem's glocks. It shows that nobody replays the journal at the same
/// time; what the journal holds is under locks that the dead node still has.
Task<Result<ReplayReport>> ClusterNode::replay(JournalId journal, bool stays_in_use) {
  CO_TRY(VolumeReader reader, co_await VolumeReader::open(environment_.volume));
  dlm::LockFlags past_the_dead;
  past_the_dead.during_recovery = true;
  dlm::Lock journal_lock(*lock_manager_, glock_resource({GlockType::journal, journal.value}), nullptr);
  CO_TRY_VOID(co_await journal_lock.acquire(dlm::Mode::exclusive, past_the_dead));
  OfflineReplayOptions how;
  how.only = journal;
  if (stays_in_use) how.in_use = journal;
  auto replays = co_await replay_offline(environment_.executor, reader, how, log_);
  CO_TRY_VOID(co_await journal_lock.release());
  if (!replays) co_return std::unexpected(replays.error());
  if (replays->empty()) co_return fail_corrupt("the volume has no journal{}", journal.value);
  co_return std::move(replays->front().report);
}

/// Nodes that fence in different ways could not fence each other.
std::optional<Error> ClusterNode::stranger_in_view() const {
  const auto& core = membership_->core();
  for (const Member& member : core.view().members) {
    const cluster::Slot* slot = core.monitor().slot(member.node);
    if (slot == nullptr || slot->member() != member || slot->key == environment_.fencer.key_of(member)) continue;
    return Error(EINVAL, fmt::format("node {} reaches the disk in another way, by which it could not be fenced from "
                                     "here: use the same device, or the same iSCSI target, on every node",
                                     slot->name));
  }
  return std::nullopt;
}

std::vector<std::uint64_t> ClusterNode::keys_of_slots(bool members) const {
  std::vector<std::uint64_t> keys;
  const auto& core = membership_->core();
  for (const cluster::Slot* slot : core.monitor().occupied()) {
    const bool member = core.view().contains(slot->member()) && core.monitor().life(slot->id) != cluster::Life::dead;
    if (member == members) keys.push_back(slot->key);
  }
  return keys;
}

Task<void> ClusterNode::maintain_fencing() {
  // A disk that has lost its reservation keeps nobody from writing: it must not stay so for long.
  const Duration interval = membership_->core().timing().heartbeat_interval;
  while (membership_ && !ended_) {
    const Result<> done = co_await environment_.fencer.maintain(
        {.members = keys_of_slots(true), .others = keys_of_slots(false), .certain = [this] { return certain(); }});
    if (!done && done.error().code() == EBADE) {
      co_await environment_.executor.yield();
      fail(done.error().within("this node was fenced"));
      co_return;
    }
    if (!done) log_.warning("fencing: {}", done.error().describe());
    co_await environment_.executor.sleep_for(interval);
  }
}

Task<void> ClusterNode::watch_lease() {
  while (!ended_) {
    if (certain()) {
      co_await environment_.executor.sleep_until(membership_->lease_end());
      continue;
    }
    if (on_uncertain) on_uncertain();
    // What was sent may still land until this node is fenced; nothing sets out any more.
    const WriteGate::Hold hold(environment_.writes);
    if (!co_await wait_until_certain()) co_return;
  }
}

bool ClusterNode::certain() const {
  return membership_ && !ended_ && membership_->may_serve();
}

Task<bool> ClusterNode::wait_until_certain() {
  while (!certain()) {
    if (ended_) co_return false;
    co_await changed_.wait();
  }
  co_return true;
}

void ClusterNode::ended(const MembershipEnded& event) {
  left_ = event.why == MembershipEnded::Why::left;
  end(event.reason);
}

void ClusterNode::fail(const Error& reason) {
  end(reason);
}

/// The locks are void from here on, and nothing is sent. Membership is not destroyed here: it may be the caller.
void ClusterNode::end(const Error& reason) {
  if (ended_) return;
  ended_ = reason;
  environment_.writes.shut(
      fail_device(EBADE, "this node is a member of the cluster no more: {}", reason.message()).error());
  close();
  if (joined_ && left_) tell_event("leave", membership_self_, {});
  if (joined_ && !left_) {
    log_.error("this node is a member of the cluster no more: {}", reason.describe());
    tell_event("withdrawn", membership_self_, reason.describe());
    work_->spawn(tell_lost(reason));
  }
  changed_.notify_all();
}

Task<void> ClusterNode::tell_lost(Error reason) {
  co_await environment_.executor.yield();
  // Heartbeats end here at the latest.
  membership_.reset();
  if (on_lost) on_lost(reason);
}

Task<void> ClusterNode::leave() {
  if (!ended_ && membership_) {
    const Time give_up = environment_.executor.now() + 3 * membership_->core().timing().failure_timeout;
    membership_->leave();
    while (!ended_ && environment_.executor.now() < give_up)
      co_await changed_.wait_until(give_up);
    if (!ended_) log_.warning("nobody answers to this node's leaving: leaving without a word");
  }
  left_ = true;
  end(Error(ESHUTDOWN, "left"));
  membership_.reset();
}

}  // namespace corral
