// A mount as one of several nodes: what happens when a glock comes down, who frees an inode, journals of dead nodes.
#include <utility>

#include "base/planted_bug.h"
#include "fs/filesystem.h"

namespace corral {

namespace {
/// Other nodes learn of this one's changes of the volume's totals so often (GFS2's statfs_quantum, quota_quantum).
constexpr Duration kTotalsInterval = std::chrono::seconds(30);
}  // namespace

class Filesystem::Keeper final : public GlockKeeper {
 public:
  explicit Keeper(Filesystem& filesystem) : fs_(filesystem) {}

  Task<Result<>> write(Glock& glock) override {
    if (!fs_.volume_.writable()) co_return fs_.volume_.withdrawn ? Result<>(fail(EIO)) : Result<>{};
    if (glock.name() == kFreezeGlock) co_return co_await fs_.freezer_->giving_up();
    if (glock.name().type == GlockType::inode) {
      // The data first: the commit that points to it waits for it anyhow.
      if (InodeRef inode = fs_.inodes_->find(BlockNo(glock.name().number)))
        CO_TRY_VOID(co_await fs_.data_->write_back(*inode));
    }
    co_return co_await fs_.journal_->sync(glock.blocks());
  }

  Task<void> forget(GlockName name) override { co_await fs_.allocator_->forget(name); }

  void iopen_wanted(BlockNo address) override {
    if (!fs_.volume_.writable() || fs_.reclaims_closed_) return;
    if (InodeRef inode = fs_.inodes_->find(address); is_looked_after(inode))
      fs_.another_node_left(inode);
    else
      fs_.reclaims_->spawn(fs_.reclaim_left_over(address));
  }

  void thaw_wanted() override { fs_.freezer_->thaw_wanted(); }

  void glock_failed(const Error& error) override { fs_.volume_.withdraw(error); }

 private:
  Filesystem& fs_;
};

Task<Result<>> Filesystem::join_cluster() {
  keeper_ = std::make_unique<Keeper>(*this);
  glocks_.set_keeper(keeper_.get(), &cache_);
  cache_.set_shared(glocks_.clustered());
  if (!glocks_.clustered() || options_.spectator) co_return Result<>{};
  // Held for as long as the journal is this node's: whoever gets it next replays the journal first.
  GlockRef glock = glocks_.get(GlockType::journal, environment_.journal.value);
  CO_TRY(journal_glock_, co_await glock->acquire(GlockMode::exclusive));
  co_return Result<>{};
}

void Filesystem::journal_recovered(const ReplayReport& report) {
  if (Result<> forgotten = forget_replayed(report); !forgotten) return volume_.withdraw(forgotten.error());
  if (volume_.writable() && !planted(PlantedBug::forgotten_orphans)) reclaim_orphans();
}

/// What the dead node had changed, it had locked: nothing of it can be cached here but leftovers.
Result<> Filesystem::forget_replayed(const ReplayReport& report) {
  for (const LoggedBlock& block : report.plan.blocks) {
    if (block.fate != LoggedBlock::Fate::write || cache_.forget_clean(block.place)) continue;
    return fail_corrupt(
        "block {} was changed by a node that had died and by this one at the same time; unmount and "
        "run fsck",
        block.place.value);
  }
  return {};
}

Task<void> Filesystem::keep_totals() {
  while (!co_await unmounting_.wait_until(environment_.executor.now() + kTotalsInterval)) {
    if (!volume_.writable()) co_return;
    const auto changing = volume_.try_change();
    if (!changing) continue;
    // A failure is the journal's, which has reported it, or lack of space, which passes.
    static_cast<void>(co_await allocator_->sync_quota());
    static_cast<void>(co_await allocator_->sync_statfs());
    if (std::exchange(totals_left_, false)) co_await take_over_totals();
    co_await look_again_at_left_over();
  }
}

Task<void> Filesystem::take_over_totals() {
  Result<> done = co_await take_over_totals_of_others();
  // The totals are only a figure for df. What is wrong with the journal or the device, these have reported.
  if (!done && !volume_.withdrawn)
    volume_.log.warning("cannot add up what other nodes have counted: {}", done.error().describe());
}

/// A node holds its statfs_change file for as long as it is mounted, and when it is dead its glock is withheld until
/// its journal was replayed. So whatever can be had at once is nobody's, and what stands in it was left by a node that
/// died.
Task<Result<>> Filesystem::take_over_totals_of_others() {
  CO_TRY(InodeRef master, inodes_->get(BlockNo(superblock_.master_dir.addr), superblock_.master_dir.formal_ino));
  CO_TRY(InodeRef per_node, co_await system_inode(master, "per_node"));
  CO_TRY(LockedInode directory, co_await inodes_->lock(per_node, GlockMode::shared));
  for (JournalId id(0);; id = JournalId(id.value + 1)) {
    if (id == environment_.journal) continue;
    auto entry = co_await directories_->lookup(directory, fmt::format("statfs_change{}", id.value));
    if (!entry && entry.error().code() == ENOENT) co_return Result<>{};
    CO_TRY_VOID(entry);
    CO_TRY(InodeRef file, inodes_->get(entry->address, entry->formal_number));
    CO_TRY(std::optional<GlockHolder> holder, co_await file->glock().attempt(GlockMode::exclusive));
    if (!holder) continue;
    CO_TRY(LockedInode left, co_await inodes_->read(file, *std::move(holder)));
    CO_TRY_VOID(co_await allocator_->take_over_statfs(left, id));
  }
}

/// True if no other node has the inode in memory and it was not freed yet; its glock is held exclusively. `iopen` then
/// keeps it so. If others have it, they were told, and the last of them to let go tries again.
Task<Result<bool>> Filesystem::may_free(Inode& inode, GlockHolder& iopen) {
  if (!glocks_.clustered() || planted(PlantedBug::free_in_use)) co_return inode.unlinked;
  inode.iopen.release();
  GlockRef glock = glocks_.get(GlockType::iopen, inode.address().value);
  // A dead node would never try again.
  CO_TRY(std::optional<GlockHolder> holder,
         co_await glock->attempt(GlockMode::exclusive, LockHow::attempt_among_living));
  if (!holder) co_return false;
  iopen = *std::move(holder);
  CO_TRY(const ondisk::BlockState state, co_await allocator_->state_of(inode.address()));
  co_return state == ondisk::BlockState::unlinked;
}

}  // namespace corral
