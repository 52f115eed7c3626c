/// Directories: names to inode identities. Stuffed directories hold their dirents behind the dinode; larger ones are
/// hashed: a table of 2^depth leaf pointers (journaled data of the inode's tree), leaves of dirents, leaf chains at
/// depth 17.
///
/// Everything on-disk is checked on reading (dirent chains, hashes, leaf depth, pointers): a corrupt error names
/// directory, leaf and offset.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string_view>

#include "base/result.h"
#include "base/task.h"
#include "fs/allocator.h"
#include "fs/inode.h"
#include "fs/metadata_tree.h"
#include "fs/volume.h"

namespace corral {

/// What a name stands for.
struct DirectoryEntry {
  BlockNo address;
  std::uint64_t formal_number = 0;
  std::uint8_t type = 0;  ///< DT_*
};

/// A cookie for seekdir: where a listing goes on. Stable while other entries come and go; 0 is the beginning.
using DirectoryCookie = std::uint64_t;

class Directories {
 public:
  Directories(Volume& volume, Allocator& allocator, MetadataTree& tree);
  ~Directories();

  /// ENOENT if the name is not there. Needs the directory's glock shared.
  Task<Result<DirectoryEntry>> lookup(const LockedInode& directory, std::string_view name);

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
    struct State;
    std::unique_ptr<State> state_;
  };
  /// Reads all that insert() will touch. EEXIST if the name exists, ENAMETOOLONG, ENOSPC past GFS2's limits.
  Task<Result<Insertion>> prepare_insert(const LockedInode& directory, std::string_view name);
  /// Adds the name (copying it); `allotment` may be null if new_blocks() is 0. Updates entries, size, depth, mtime and
  /// ctime, and the directory's nlink if the entry is a directory.
  Task<Result<>> insert(Transaction& transaction, Allotment* allotment, const LockedInode& directory,
                        Insertion insertion, std::string_view name, DirectoryEntry entry);

  /// Log blocks that remove() or replace() of one name takes, dinode included.
  static constexpr std::uint32_t kRemoveLogBlocks = 3;
  /// Removes the name; ENOENT. Updates entries, mtime, ctime, and nlink if the entry is a directory. The name's leaf is
  /// read before anything is changed.
  Task<Result<>> remove(Transaction& transaction, const LockedInode& directory, std::string_view name);
  /// Lets the name (also "..") stand for another inode. ENOENT.
  Task<Result<>> replace(Transaction& transaction, const LockedInode& directory, std::string_view name,
                         DirectoryEntry entry);

  /// True if the directory holds only "." and "..".
  static bool is_empty(const LockedInode& directory);

  /// Calls `sink` for each entry after `cookie`, in cookie order ("." and ".." included), until it returns false or the
  /// end. The cookie given with an entry continues behind it.
  using Sink = std::function<bool(std::string_view name, const DirectoryEntry& entry, DirectoryCookie next)>;
  Task<Result<>> list(const LockedInode& directory, DirectoryCookie cookie, const Sink& sink);

  /// Lays "." and ".." into the freshly made, stuffed dinode block of a new directory and sets entries, size, nlink 2,
  /// payload_format.
  static void initialize(std::span<std::byte> dinode_block, DirectoryEntry self, DirectoryEntry parent);

  /// Frees leaves and hash table of an empty directory that is being freed, in bounded transactions.
  Task<Result<>> free_contents(const LockedInode& directory);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace corral
