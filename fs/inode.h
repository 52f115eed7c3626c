/// Inodes in memory: one Inode per block address that the kernel, an open file or a running operation knows.
///
/// What the kernel knows from an earlier life of a clustered mount rests, too, until it is used: the inode may have
/// been freed meanwhile, and its block used anew, so it is looked at first (Operations::lock).
///
/// An Inode holds no attributes: they are the dinode's, read under the inode's glock through LockedInode. What it does
/// hold cannot be derived from the disk: who refers to it, dirty file data, the allocator's window.
///
/// The kernel alone decides how many inodes it knows. Where they take more than half of what metadata may take, those
/// that were not used for longest rest: only their numbers and the kernel's references are kept, until they are used
/// again.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include <boost/intrusive/list.hpp>
#include <boost/smart_ptr/intrusive_ptr.hpp>

#include "base/result.h"
#include "base/strong.h"
#include "fs/allocation_window.h"
#include "fs/glock.h"
#include "fs/lookup_ahead.h"
#include "fs/volume.h"
#include "journal/journal.h"
#include "ondisk/layout.h"

namespace corral {

class Inode;
class InodeTable;
class DirtyData;
void intrusive_ptr_add_ref(Inode* inode);
void intrusive_ptr_release(Inode* inode);
using InodeRef = boost::intrusive_ptr<Inode>;

class Inode : public boost::intrusive::list_base_hook<boost::intrusive::link_mode<boost::intrusive::auto_unlink>> {
 public:
  ~Inode();
  BlockNo address() const { return address_; }
  /// Number that tells this inode from earlier ones at the same address.
  std::uint64_t formal_number() const { return formal_number_; }
  Glock& glock() { return *glock_; }

  /// References of the kernel (FUSE lookups minus forgets) and of open files; an unlinked inode is freed when both are
  /// 0.
  std::uint64_t lookups = 0;
  std::uint32_t opens = 0;
  /// Open files that may write. While there are any on a clustered mount, what is read for the kernel's page cache is
  /// read under the exclusive glock (Operations::open).
  std::uint32_t writers = 0;
  /// What the upper layer (the kernel) may remember of what it was told; the upper layer's to keep.
  struct Told {
    bool attributes = false;
    bool names = false;  ///< of a directory: what is in it and what is not
    bool data = false;
    Time wanted{};  ///< when it was last made to forget because another node wanted the glock
  };
  Told told;
  /// Set by the operation that took the last link away, or when an inode that is referred to is found without links
  /// (another node took the last one); the inode's blocks are freed when nobody refers to it.
  bool unlinked = false;
  /// Another node tried to free the inode while this one had it in memory: to be looked at after the last reference.
  bool free_wanted = false;
  /// On clustered mounts, the inode's iopen glock, shared from the first reference on (InodeTable::pin) for as long as
  /// the inode is in memory: nobody frees it meanwhile.
  GlockHolder iopen;
  AllocationWindow window;
  std::unique_ptr<LookupAhead> lookup_ahead;  ///< of a directory in which names were looked up
  /// File data written but not yet on the disk; made on the first write. Owned here, defined in fs/file_data.
  std::shared_ptr<DirtyData> dirty;

 private:
  friend class InodeTable;
  friend void intrusive_ptr_add_ref(Inode* inode);
  friend void intrusive_ptr_release(Inode* inode);
  Inode(InodeTable& table, BlockNo address, std::uint64_t formal_number, GlockRef glock);
  /// True if it can be made anew at any time.
  bool may_rest() const;

  InodeTable& table_;
  BlockNo address_;
  std::uint64_t formal_number_;
  GlockRef glock_;
  std::uint32_t references_ = 0;
};

/// An inode whose glock is held and whose dinode block is in memory. Movable; releases the glock when destroyed.
class [[nodiscard]] LockedInode {
 public:
  LockedInode() = default;
  LockedInode(InodeRef inode, GlockHolder holder, BlockRef block)
      : inode_(std::move(inode)), holder_(std::move(holder)), block_(std::move(block)) {}

  bool held() const { return inode_ != nullptr; }
  Inode& inode() const { return *inode_; }
  const InodeRef& reference() const { return inode_; }
  BlockNo address() const { return inode_->address(); }
  BlockOwner& owner() const { return inode_->glock().blocks(); }
  GlockMode mode() const { return holder_.mode(); }
  Block& block() const { return *block_; }
  /// The whole dinode block.
  std::span<const std::byte> bytes() const { return block_->bytes(); }
  const ondisk::Dinode& dinode() const { return block_->as<ondisk::Dinode>(); }
  /// For changing; needs the glock exclusive. Valid until the next co_await.
  ondisk::Dinode& modify(Transaction& transaction) const {
    CHECK_INVARIANT(holder_.mode() == GlockMode::exclusive);
    return transaction.modify_as<ondisk::Dinode>(*block_);
  }
  void release() { *this = LockedInode(); }

  std::uint32_t mode_bits() const { return dinode().mode; }
  bool is_directory() const;
  bool is_regular() const;
  bool is_symlink() const;
  bool is_stuffed() const { return dinode().height == 0; }
  bool is_hashed_directory() const { return (dinode().flags & ondisk::kDinodeHashedDirectory) != 0; }
  bool is_journaled_data() const { return (dinode().flags & ondisk::kDinodeJournaledData) != 0; }
  std::uint64_t size_bytes() const { return dinode().size; }

 private:
  InodeRef inode_;
  GlockHolder holder_;
  BlockRef block_;
};

/// An inode as the kernel knows it.
struct KnownInode {
  std::uint64_t formal_number;
  std::uint64_t lookups;  ///< references, never 0
};
/// All that the kernel knows of a mount. It survives the mount's lives.
using KnownInodes = std::map<BlockNo, KnownInode>;

class InodeTable {
 public:
  explicit InodeTable(Volume& volume) : volume_(volume) {}
  ~InodeTable();
  /// The inode object for an identity read from a dirent, the superblock or a file handle; does not read the dinode.
  /// ESTALE if an inode with another formal number is in use at that address.
  Result<InodeRef> get(BlockNo address, std::uint64_t formal_number);
  /// Null if nobody knows the inode. Wakes it if it rests.
  InodeRef find(BlockNo address);
  /// Takes the glock and reads the dinode. ESTALE if the block holds another inode (formal number) or none; a damaged
  /// dinode gives a corrupt error.
  Task<Result<LockedInode>> lock(InodeRef inode, GlockMode mode);
  /// The same for whoever has the glock already.
  Task<Result<LockedInode>> read(InodeRef inode, GlockHolder holder);
  /// What the kernel refers to, the root excepted.
  KnownInodes known(BlockNo root) const;
  /// The kernel refers to these from an earlier life.
  void remember(const KnownInodes& known);
  /// True if the inode can be no other than the kernel's or this node's references mean: nobody can have freed it.
  bool is_certain(const Inode& inode) const { return !volume_.glocks.clustered() || inode.iopen.held(); }
  /// Before a reference is counted: no other node frees the inode from now on. The inode's glock is held by the caller.
  Task<Result<>> pin(InodeRef inode);
  /// The glock of an inode in the making, had before its transaction begins.
  struct NewPlace {
    GlockHolder glock;
    GlockHolder iopen;
  };
  /// For a block set aside to become a dinode: its glock, exclusive. Empty if somebody, here or on another node, still
  /// holds it for what the block was before: waiting for him is for a time when no resource group is held.
  /// `held`: the glock of some inode, exclusive, that the caller has waited for: used if it is this one, else let go.
  Task<Result<std::optional<NewPlace>>> claim(BlockNo address, GlockHolder held);
  /// For an inode just allocated there: makes an empty dinode block, to be filled in the transaction.
  Result<LockedInode> make(NewPlace place, std::uint64_t formal_number);
  std::size_t size() const { return inodes_.size(); }
  std::size_t resting() const { return resting_.size(); }
  /// size() beyond which inodes rest.
  std::size_t most_awake() const;
  /// Every inode of which the upper layer may remember something, in order of address.
  std::vector<InodeRef> told_inodes();
  /// Every inode with dirty data (for syncfs and memory pressure), in order of address.
  std::vector<InodeRef> dirty_inodes();
  /// Every inode without links (as far as is known) that somebody still referred to, in order of address.
  std::vector<InodeRef> unlinked_inodes();
  /// Nobody refers to any inode any more: other nodes may free them.
  void unpin_all();
  /// The inode was freed, or the mount ends: nothing keeps it in the table but references.
  void discard(Inode& inode);
  /// The mount has ended: forgets every inode; none may be referenced any more.
  void discard_all();

 private:
  friend class Inode;
  friend void intrusive_ptr_add_ref(Inode* inode);
  friend void intrusive_ptr_release(Inode* inode);
  Inode& add(BlockNo address, std::uint64_t formal_number);
  template <class Predicate>
  std::vector<InodeRef> select(Predicate wanted);
  void note_unused(Inode& inode);
  void rest(Inode& inode);
  /// What inodes take of the memory that was given to the mount, the cache of blocks does without.
  void share_memory();
  std::uint64_t memory_bytes() const;
  GlockRef iopen_glock(BlockNo address);

  Volume& volume_;
  std::unordered_map<BlockNo, std::unique_ptr<Inode>> inodes_;
  std::unordered_map<BlockNo, KnownInode> resting_;  ///< none of them is in inodes_
  /// Those that only the kernel refers to, least recently used first.
  boost::intrusive::list<Inode, boost::intrusive::constant_time_size<false>> unused_;
  std::uint64_t counted_bytes_ = 0;  ///< of memory_bytes(), what the cache of blocks does without
};

}  // namespace corral
