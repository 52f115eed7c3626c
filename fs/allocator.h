/// Allocation of blocks and dinodes from resource groups, and giving them back.
///
/// An operation that allocates first takes a resource group that has room (allot), then begins its transaction with the
/// log blocks that the Allotment names, then takes blocks from the Allotment. An operation that frees first locks every
/// resource group involved (prepare_release), then begins its transaction.
///
/// Free counts, bitmaps, statfs changes and quota changes of one call change in the same transaction. Blocks freed are
/// not allocated again before the transaction that freed them has committed (Journal::running_set), so that no data is
/// overwritten that a crash would bring back.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <utility>
#include <vector>

#include "base/result.h"
#include "base/strong.h"
#include "base/task.h"
#include "fs/inode.h"
#include "fs/volume.h"
#include "journal/journal.h"

namespace corral {

/// Contiguous blocks.
struct Extent {
  BlockNo start;
  std::uint32_t length = 0;
};

/// Whom blocks are charged to.
struct Ownership {
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  bool charged = true;  ///< false for system inodes, which are in nobody's quota
};
Ownership ownership_of(const ondisk::Dinode& dinode);

struct AllotmentRequest {
  BlockNo goal{};                      ///< near which block (0: anywhere)
  std::uint32_t blocks = 0;            ///< data and metadata blocks needed at the least
  std::uint32_t wished = 0;            ///< beyond `blocks`, more that could be used now (for contiguity)
  std::uint32_t dinodes = 0;           ///< dinodes among `blocks`, 0 or 1
  Ownership owner{};                   ///< checked against quota limits when quota=on (EDQUOT)
  bool exempt_from_limits = false;     ///< the caller may exceed quota limits (root)
  AllocationWindow* window = nullptr;  ///< the inode's window, honoured and moved along; may be null, else outlives it
  /// Spread new directories' inodes over the resource groups (children of the root and of a top directory).
  bool spread = false;
  /// Before ENOSPC, wait for inodes that are being freed: not for who holds a glock that freeing one may need.
  bool may_wait_for_frees = true;
};

/// A resource group held exclusively with `blocks` free for the caller. Blocks not taken stay free.
class [[nodiscard]] Allotment {
 public:
  Allotment();
  Allotment(Allotment&&) noexcept;
  Allotment& operator=(Allotment&&) noexcept;
  ~Allotment();

  /// Blocks that a transaction which uses this allotment must add to its size (header, bitmaps, statfs, quota change).
  std::uint32_t log_blocks() const;
  /// Blocks that may still be taken: at least what was requested.
  std::uint32_t available() const;
  /// Takes 1 to `wanted` contiguous blocks, at `window`/goal if free; marks them used. ENOSPC only if more than
  /// available() were taken (a bug of the caller) or the bitmap is damaged (corrupt).
  Result<Extent> take_blocks(Transaction& transaction, std::uint32_t wanted);
  /// The same, charged to somebody else than the request's owner (a directory that grows for another's new file).
  Result<Extent> take_blocks(Transaction& transaction, std::uint32_t wanted, Ownership owner);
  /// Takes one block for a dinode. `generation` (rg_igeneration, never the same twice within the group) becomes both
  /// di_generation and the formal inode number, as the kernel has it.
  struct NewDinode {
    BlockNo block;
    std::uint64_t generation;
  };
  /// Chooses the block that the next take_dinode() takes, so that its glock can be had before the transaction begins.
  Result<BlockNo> set_dinode_aside();
  /// `state` may be unlinked for an inode that is born without a name (O_TMPFILE).
  Result<NewDinode> take_dinode(Transaction& transaction, ondisk::BlockState state = ondisk::BlockState::dinode);

 private:
  friend class Allocator;
  struct State;
  std::unique_ptr<State> state_;
};

/// Resource groups held exclusively for giving blocks back.
class [[nodiscard]] Release {
 public:
  Release();
  Release(Release&&) noexcept;
  Release& operator=(Release&&) noexcept;
  ~Release();

  std::uint32_t log_blocks() const;
  /// True if the block may be given back under this release without more log blocks: it lies in a bitmap block of
  /// those that prepare_release() was given.
  bool covers(BlockNo block) const;
  /// Used blocks become free. Metadata blocks must also be given to Transaction::free_block by the caller.
  Result<> free_blocks(Transaction& transaction, Extent extent, Ownership owner);
  /// The dinode (in state unlinked) becomes free.
  Result<> free_dinode(Transaction& transaction, BlockNo block, Ownership owner);
  /// The dinode lost its last link: bitmap state unlinked.
  Result<> set_unlinked(Transaction& transaction, BlockNo block);
  /// An unlinked dinode got a link again (O_TMPFILE then linkat): bitmap state dinode.
  Result<> set_linked(Transaction& transaction, BlockNo block);

 private:
  friend class Allocator;
  struct State;
  std::unique_ptr<State> state_;
};

enum class QuotaKind : std::uint8_t { user, group };

/// One user's or group's quota, in filesystem blocks; limits of 0 are none.
struct QuotaFigures {
  std::uint64_t limit = 0;
  std::uint64_t warn = 0;
  std::int64_t used = 0;
};

struct QuotaRecord {
  QuotaKind kind;
  std::uint32_t id;
  QuotaFigures figures;
};

/// What making the volume larger adds to it, or would.
struct VolumeGrowth {
  std::uint64_t groups = 0;        ///< resource groups
  std::uint64_t blocks = 0;        ///< that can be allocated in them
  std::uint64_t total_blocks = 0;  ///< that can be allocated in all, with these
  std::uint64_t spare_blocks = 0;  ///< of the device behind the last group, too few for a group of their own
};

/// What statfs answers, in filesystem blocks.
struct SpaceFigures {
  std::uint64_t total_blocks = 0;
  std::uint64_t free_blocks = 0;
  std::uint64_t dinodes = 0;
};

class Allocator {
 public:
  explicit Allocator(Volume& volume);
  ~Allocator();

  /// Reads what is needed to find resource groups (not the groups themselves). `system_files` are given by Filesystem.
  struct SystemFiles {
    InodeRef rindex;
    InodeRef statfs;         ///< master
    InodeRef statfs_change;  ///< this node's; null on read-only mounts
    InodeRef quota;
    InodeRef quota_change;  ///< this node's; null on read-only mounts
  };
  Task<Result<>> open(SystemFiles files);

  /// Lets go of all glocks, windows and cached blocks; for unmounting, after the last sync_statfs and sync_quota, and
  /// before the glock table is emptied. Nothing may be called afterwards.
  Task<void> close();

  /// The glock is given up to another node, nobody holds it: what is known of what it protects is forgotten. Before the
  /// resource index is given up the device's size is looked at: who gets it may be about to make the volume larger, and
  /// this node must be able to follow what then points there.
  Task<void> forget(GlockName glock);
  /// A commit of the journal is stable: with -o discard, what it freed is discarded now.
  void note_commit();
  /// Lets go of what was read and is not in use, to give memory back.
  void drop_unused();

  /// Awaited before ENOSPC is reported: waits for unlinked inodes that are being freed. Installed by Filesystem.
  std::function<Task<void>()> before_no_space;
  /// Told which dinodes in state unlinked a resource group holds when it is first used; the list may name inodes that
  /// are open. Called in the middle of an operation: must only take note. Installed by Filesystem.
  std::function<void(std::span<const BlockNo>)> on_unlinked_found;

  /// Locks a resource group with room. ENOSPC if none has (after waiting for what was freed but is not committed yet,
  /// and for unlinked inodes that are being freed); EDQUOT.
  Task<Result<Allotment>> allot(AllotmentRequest request);
  /// Locks the resource groups of these blocks, in order. Every block to be given back must be named (log_blocks counts
  /// the bitmap blocks they lie in). A corrupt error if a block is in no resource group.
  Task<Result<Release>> prepare_release(std::vector<BlockNo> blocks);
  Task<Result<Release>> prepare_release(std::vector<Extent> extents);
  /// Both at once, for operations that need both: the resource groups are locked in order, whatever they are.
  Task<Result<std::pair<Allotment, Release>>> allot_and_release(AllotmentRequest request, std::vector<BlockNo> blocks);

  /// State of one block, read under the resource group's glock. For file handles and for checks.
  Task<Result<ondisk::BlockState>> state_of(BlockNo block);

  /// Moves blocks from one owner to another in the quota's books (chown).
  Task<Result<>> check_quota(Ownership owner, std::uint64_t blocks);
  Task<Result<>> transfer_quota(Transaction& transaction, Ownership from, Ownership to, std::uint64_t blocks);
  /// What the quota file says plus this node's changes, in filesystem blocks.
  Task<Result<QuotaFigures>> quota_of(QuotaKind kind, std::uint32_t id);
  /// Limits in filesystem blocks, 0 for none; the one that is not given stays. Works with any quota= mode; the other
  /// nodes go by them from their next look at the quota file on, which comes before their next promise of blocks.
  Task<Result<>> set_quota_limits(QuotaKind kind, std::uint32_t id, std::optional<std::uint64_t> limit,
                                  std::optional<std::uint64_t> warn);
  /// Every user and group whose record is not all zeros, in the file's order, as quota_of() has them. What other nodes
  /// have charged since their last sync_quota() is not in it. EFBIG for more than a million.
  Task<Result<std::vector<QuotaRecord>>> quota_records();
  /// Sets what is charged, in the quota file: for who has counted what files really use while nobody charges anything.
  Task<Result<>> set_quota_usage(QuotaKind kind, std::uint32_t id, std::uint64_t blocks);
  /// Log blocks that transfer_quota needs.
  std::uint32_t quota_log_blocks() const;

  Task<Result<SpaceFigures>> figures();
  /// Moves this node's statfs changes into the master file, its quota changes into the quota file. Background, sync,
  /// unmount.
  Task<Result<>> sync_statfs();
  /// Moves what another node has left in its statfs_changeN, held exclusively, into the master file.
  Task<Result<>> take_over_statfs(const LockedInode& left, JournalId of);
  Task<Result<>> sync_quota();
  /// For LogHeaderExtras.
  LogHeaderExtras header_extras() const;

  /// Calls `visit` for every dinode in state unlinked of the resource groups, to free what a crash left (at mount, and
  /// for a dead node). `visit` may allocate and free.
  Task<Result<>> for_each_unlinked(std::function<Task<Result<>>(BlockNo)> visit);
  /// FITRIM: discards free extents of at least `minimum_bytes` within the byte range; returns bytes discarded. One
  /// resource group at a time, which is let go between two extents where another node waits for it. EOPNOTSUPP where
  /// the device cannot discard, EINVAL for a range with no block in it, ECANCELED when it was stopped before its end.
  Task<Result<std::uint64_t>> trim(std::uint64_t start_bytes, std::uint64_t length_bytes, std::uint64_t minimum_bytes,
                                   std::stop_token stop = {});
  /// Makes the volume as large as the device, whose size is looked at anew; with `dry_run` only says what it would do.
  /// New resource groups are laid out and made stable before the resource index has them, so a crash at any moment
  /// leaves a sound volume, and growing again goes on where it stopped. One node grows the volume at a time; the others
  /// notice by the resource index's glock. ECANCELED when it was stopped: what was added until then stays.
  Task<Result<VolumeGrowth>> grow(bool dry_run, std::stop_token stop = {});

 private:
  friend class Allotment;
  friend class Release;
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace corral
