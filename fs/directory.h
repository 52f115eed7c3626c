/// Directories: names to inode identities. Stuffed directories hold their dirents behind the dinode; larger ones are
/// hashed: a table of 2^depth leaf pointers (journaled data of the inode's tree), leaves of dirents, leaf chains at
/// depth 17.
///
/// Everything on-disk is checked on reading (dirent chains, hashes, leaf depth, pointers): a corrupt error names
/// directory, leaf and offset.
///
/// In one transaction, names leave a directory before one that was prepared comes in: insertions allow for removals
/// since they were prepared, a Location is void once a name was inserted.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>

#include "base/result.h"
#include "base/task.h"
#include "fs/allocator.h"
#include "fs/directory_cookie.h"
#include "fs/directory_entry.h"
#include "fs/directory_table.h"
#include "fs/inode.h"
#include "fs/metadata_tree.h"
#include "fs/volume.h"

namespace corral {

class DirectoryGrowth;

class Directories {
 public:
  Directories(Volume& volume, Allocator& allocator, MetadataTree& tree)
      : volume_(volume), allocator_(allocator), tree_(tree), table_(volume, tree) {}

  /// ENOENT if the name is not there. Needs the directory's glock shared.
  Task<Result<DirectoryEntry>> lookup(const LockedInode& directory, std::string_view name);

  /// A name that is there, with the block that holds it kept in memory, so that remove() and replace() cannot fail.
  /// Good as long as the directory stays locked and nothing is inserted into it.
  struct Location {
    DirectoryEntry entry;
    BlockRef block;
  };
  /// ENOENT.
  Task<Result<Location>> locate(const LockedInode& directory, std::string_view name);

  /// Room for one more name: found before the transaction, used in it, while the directory stays locked exclusive.
  class [[nodiscard]] Insertion {
   public:
    Insertion();
    Insertion(Insertion&&) noexcept;
    Insertion& operator=(Insertion&&) noexcept;
    ~Insertion();
    std::uint32_t new_blocks() const;  ///< blocks to allot (0 in the common case)
    std::uint32_t log_blocks() const;  ///< log blocks for the directory itself, dinode included
   private:
    friend class Directories;
    BlockRef block_;                           ///< where the name fits, or:
    std::unique_ptr<DirectoryGrowth> growth_;  ///< how to make room
  };
  /// Reads all that insert() will touch. EEXIST if the name exists, ENAMETOOLONG, EINVAL for what is no name, ENOSPC
  /// past GFS2's limits.
  Task<Result<Insertion>> prepare_insert(const LockedInode& directory, std::string_view name);
  /// Adds the name (copying it); `allotment` may be null if new_blocks() is 0. Updates entries, size, depth, mtime and
  /// ctime, and the directory's nlink if the entry is a directory. Cannot fail where new_blocks() is 0.
  Task<Result<>> insert(Transaction& transaction, Allotment* allotment, const LockedInode& directory,
                        Insertion insertion, std::string_view name, DirectoryEntry entry);

  /// Log blocks that remove() or replace() of one name takes, dinode included.
  static constexpr std::uint32_t kRemoveLogBlocks = 2;
  /// Removes the name. Updates entries, mtime, ctime, and nlink if the entry is a directory.
  void remove(Transaction& transaction, const LockedInode& directory, const Location& location, std::string_view name);
  /// Lets the name (also "..") stand for another inode. Updates mtime and ctime, and nlink where one of the two is a
  /// directory and the other is not.
  void replace(Transaction& transaction, const LockedInode& directory, const Location& location, std::string_view name,
               const DirectoryEntry& entry);
  /// The same for a name not located before: ENOENT, and all that reading its leaf may bring, before anything changes.
  Task<Result<>> remove(Transaction& transaction, const LockedInode& directory, std::string_view name);
  Task<Result<>> replace(Transaction& transaction, const LockedInode& directory, std::string_view name,
                         DirectoryEntry entry);

  /// True if the directory holds only "." and "..".
  static bool is_empty(const LockedInode& directory);

  /// Calls `sink` for each entry at or behind `cookie` (0: the first), in the order of places ("." and ".." included),
  /// until it returns false or the end. `next` is the cookie that goes on behind the entry. See fs/directory_cookie.h
  /// for why no entry is left out or given twice while others come and go. Past kLastCookie there is nothing.
  using Sink = std::function<bool(std::string_view name, const DirectoryEntry& entry, DirectoryCookie next)>;
  Task<Result<>> list(const LockedInode& directory, DirectoryCookie cookie, const Sink& sink);

  /// Lays "." and ".." into the freshly made, stuffed dinode block of a new directory and sets entries, size, nlink 2,
  /// payload_format and the flag of journaled data.
  static void initialize(std::span<std::byte> dinode_block, DirectoryEntry self, DirectoryEntry parent);

  /// Frees leaves and hash table of an empty, unlinked directory, in bounded transactions; goes on where a crash left
  /// off. With the last leaf the dinode becomes that of a regular file (as the kernel does it), so that neither we nor
  /// a kernel look for leaves again: what is left then is freed as a file's blocks are.
  Task<Result<>> free_contents(const LockedInode& directory);

 private:
  struct FreeStep;
  Task<Result<Location>> find(const LockedInode& directory, HashedName name);
  Task<Result<Insertion>> prepare_insert_hashed(const LockedInode& directory, HashedName name);
  Task<Result<>> list_hashed(const LockedInode& directory, DirectoryCookie cookie, const Sink& sink);
  Task<Result<FreeStep>> next_free_step(const LockedInode& directory, std::uint32_t index);

  Volume& volume_;
  Allocator& allocator_;
  MetadataTree& tree_;
  DirectoryTable table_;
};

}  // namespace corral
