/// The operations of a mounted filesystem, as the FUSE front (and the simulator) calls them: paths are already resolved
/// to inodes, permissions of the caller were checked by the kernel (default_permissions, POSIX ACLs); what remains is
/// POSIX's meaning of each operation, errno for errno.
///
/// Every inode is named by its block address (FUSE node id; FUSE's root id 1 is translated by the front). A successful
/// lookup-like operation (those that return Entry) counts one kernel reference on the inode; forget() gives it back.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "base/task.h"
#include "fs/acl.h"
#include "fs/directory.h"
#include "fs/extended_attributes.h"
#include "fs/file_data.h"
#include "fs/inode.h"

namespace corral {

/// Who asks.
struct Caller {
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::uint32_t pid = 0;
  std::uint32_t umask = 0;
};

/// stat(2), from the dinode.
struct Attributes {
  BlockNo inode;
  std::uint64_t generation = 0;  ///< the formal number: tells inodes at one address apart (NFS handles)
  std::uint32_t mode = 0;
  std::uint32_t nlink = 0;
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::uint32_t device_major = 0;
  std::uint32_t device_minor = 0;
  std::uint64_t size_bytes = 0;
  std::uint64_t blocks_512 = 0;
  WallTime atime;
  WallTime mtime;
  WallTime ctime;
  std::uint32_t flags = 0;  ///< di_flags
};
Attributes attributes_of(const ondisk::Dinode& dinode, const ondisk::Geometry& geometry);

/// Answer of lookup-like operations.
struct Entry {
  Attributes attributes;
};

struct NewNode {
  std::uint32_t mode = 0;  ///< type and permissions, umask not yet applied
  std::uint32_t device_major = 0;
  std::uint32_t device_minor = 0;
  std::string symlink_target;  ///< at most kSymlinkTargetMaxBytes
};

struct AttributeChange {
  std::optional<std::uint32_t> mode;  ///< permission bits
  std::optional<std::uint32_t> uid;
  std::optional<std::uint32_t> gid;
  std::optional<std::uint64_t> size_bytes;
  std::optional<WallTime> atime;  ///< `now` is put in by the caller
  std::optional<WallTime> mtime;
  std::optional<WallTime> ctime;
  bool chosen_times = false;  ///< atime or mtime is not simply now: not allowed for append-only inodes
  /// FATTR_KILL_SUIDGID: clear setuid, and setgid where it means execution (the group may execute) or where the caller
  /// is not in the group.
  bool kill_set_ids = false;
};

enum class RenameMode { replace, no_replace, exchange };

class Filesystem;

class Operations {
 public:
  explicit Operations(Filesystem& filesystem) : fs_(filesystem) {}

  // Names
  Task<Result<Entry>> lookup(BlockNo directory, std::string name);
  /// By address alone, for file handles (NFS): FUSE does not pass the handle's generation on, the kernel compares it
  /// with the answer's. ESTALE unless an inode (not a system file) is in use there.
  Task<Result<Entry>> lookup_handle(BlockNo inode, std::optional<std::uint64_t> generation);
  /// ".." of a directory, for NFS.
  Task<Result<Entry>> lookup_parent(BlockNo directory);
  void forget(BlockNo inode, std::uint64_t count);
  /// mknod, mkdir, symlink and O_CREAT in one: the type is in node.mode. EEXIST.
  Task<Result<Entry>> create(BlockNo directory, std::string name, NewNode node, Caller caller);
  /// O_TMPFILE: an inode without a name; freed at the last reference unless linked.
  Task<Result<Entry>> create_unnamed(BlockNo directory, std::uint32_t mode, Caller caller);
  Task<Result<Entry>> link(BlockNo inode, BlockNo directory, std::string name);
  Task<Result<>> unlink(BlockNo directory, std::string name);
  Task<Result<>> remove_directory(BlockNo directory, std::string name);
  Task<Result<>> rename(BlockNo old_directory, std::string old_name, BlockNo new_directory, std::string new_name,
                        RenameMode mode);
  Task<Result<std::string>> read_link(BlockNo inode);

  // Attributes
  Task<Result<Attributes>> get_attributes(BlockNo inode);
  Task<Result<Attributes>> set_attributes(BlockNo inode, AttributeChange change, Caller caller);
  /// A read of the inode's contents (also of a directory or symlink) was answered: sets its atime where the mount's
  /// atime option says so. Only a hint: errors are passed over.
  Task<void> accessed(BlockNo inode);
  /// FS_IOC_GETFLAGS / FS_IOC_SETFLAGS (FS_*_FL bits) and FS_IOC_FSGETXATTR's xflags through them.
  Task<Result<std::uint32_t>> get_flags(BlockNo inode);
  Task<Result<>> set_flags(BlockNo inode, std::uint32_t flags, Caller caller);
  Task<Result<std::vector<std::byte>>> get_xattr(BlockNo inode, std::string name);
  Task<Result<std::vector<std::string>>> list_xattr(BlockNo inode);
  /// Also system.posix_acl_access / _default: checked, the mode follows the access ACL. `kill_setgid`: FUSE's
  /// SETXATTR_ACL_KILL_SGID.
  Task<Result<>> set_xattr(BlockNo inode, std::string name, std::vector<std::byte> value, SetMode mode,
                           bool kill_setgid);
  Task<Result<>> remove_xattr(BlockNo inode, std::string name);

  // Files
  /// Counts an open file; release() gives it back. EROFS and EPERM (immutable, append-only) as open(2) says; `flags`
  /// are O_*.
  ///
  /// The kernel writes to pages without asking first: a store to shared memory, and a write(2) that keeps its page
  /// locked until it is answered. So on a clustered mount a file that is open for writing here is read under the
  /// exclusive glock (opening it takes that too), and whenever the node has less than that, the kernel has no valid
  /// page of the file.
  struct OpenedFile {
    bool access_is_due = false;  ///< the first read will move the access time
    std::uint64_t size_bytes = 0;
  };
  Task<Result<OpenedFile>> open(BlockNo inode, int flags);
  /// `flags` as given to open().
  void release(BlockNo inode, int flags);
  Task<Result<std::size_t>> read(BlockNo inode, std::uint64_t offset, std::span<std::byte> out);
  /// `flags`: O_APPEND (the offset is ignored), O_DIRECT, O_SYNC, O_DSYNC of the open file. `write_back`: the kernel's
  /// page cache writes (no times, no suid change). `kill_set_ids`: FUSE_WRITE_KILL_SUIDGID.
  struct WriteHow {
    int flags = 0;
    bool write_back = false;
    bool kill_set_ids = false;
    Caller caller = {};  ///< whose groups decide about setgid
  };
  Task<Result<std::size_t>> write(BlockNo inode, std::uint64_t offset, std::span<const std::byte> data, WriteHow how);
  Task<Result<>> fsync(BlockNo inode, bool data_only);
  /// Set-id bits stay: the kernel asks for their removal by itself (set_attributes), here and for copy_range().
  Task<Result<>> fallocate(BlockNo inode, int mode, std::uint64_t offset, std::uint64_t length);
  Task<Result<std::uint64_t>> seek(BlockNo inode, std::uint64_t offset, int whence);
  Task<Result<std::size_t>> copy_range(BlockNo from, std::uint64_t from_offset, BlockNo to, std::uint64_t to_offset,
                                       std::size_t length);

  // Directories
  /// See Directories::list.
  Task<Result<>> list(BlockNo directory, DirectoryCookie cookie, Directories::Sink sink);
  /// The same with attributes; each accepted entry counts a kernel reference. Of "." and "..", and of damaged inodes,
  /// only name, address and type are given: their generation is 0, and nothing is counted. Dinodes are read ahead, many
  /// at a time.
  using EntrySink = std::function<bool(std::string_view name, const Entry& entry, DirectoryCookie next)>;
  Task<Result<>> list_plus(BlockNo directory, DirectoryCookie cookie, EntrySink sink);

  // The whole
  Task<Result<>> sync();  ///< syncfs: everything written so far is stable
  struct Statistics {
    std::uint64_t blocks, free_blocks, inodes, free_inodes;
    std::uint32_t block_size_bytes, name_max_bytes;
  };
  Task<Result<Statistics>> statistics();
  Task<Result<std::uint64_t>> trim(std::uint64_t start_bytes, std::uint64_t length_bytes, std::uint64_t minimum_bytes);

 private:
  /// An inode that the kernel knows, locked; an interrupted truncation is completed where the lock is exclusive.
  /// ESTALE for one it should not know.
  Task<Result<LockedInode>> lock(BlockNo inode, GlockMode mode);
  Task<Result<LockedInode>> lock(InodeRef inode, GlockMode mode);
  /// An inode by the number that the kernel has. ESTALE for one that it should not know, and for one from an earlier
  /// life of the mount that is no more.
  Task<Result<InodeRef>> find(BlockNo inode);
  Task<Result<InodeRef>> find_again(InodeRef known);
  /// The formal number of the inode that is in use at the address, as the disk tells. ESTALE if there is none.
  Task<Result<std::uint64_t>> number_on_disk(BlockNo inode);
  Task<Result<LockedInode>> lock_to_read_data(BlockNo inode);
  /// The same for changing: EROFS, EIO after a withdraw.
  Task<Result<LockedInode>> lock_to_change(BlockNo inode);
  /// A directory in which a name is to be changed: EPERM where its flags forbid it, ENOENT if it was removed itself.
  Task<Result<LockedInode>> lock_to_change_names(BlockNo directory, bool removes);
  Task<DirectoryCookie> read_dinodes_ahead(const LockedInode& directory, DirectoryCookie cookie, std::size_t entries);
  /// Before the dinode at `wanted` is read for a lookup.
  Task<void> read_ahead_of_lookups(const LockedInode& directory, BlockNo wanted);
  /// Counts a reference of the kernel.
  Task<Result<Entry>> enter(const LockedInode& inode);
  Entry entered(const LockedInode& inode);
  WallTime now() const;
  /// Whether a read moves the access time.
  bool access_is_due(const LockedInode& inode) const;
  /// Passes an error on that struck after a transaction had begun to change blocks: memory no longer matches any state
  /// that may be committed, so the mount withdraws.
  Error broken(const Error& error);

  struct NewInode;
  Task<Result<Entry>> make(BlockNo directory, std::string name, NewNode node, Caller caller, bool named);
  Task<Result<NewInode>> inherit(const LockedInode& directory, const NewNode& node, Caller caller);
  Task<Result<InodeTable::NewPlace>> find_place(AllotmentRequest request, Allotment& allotment);
  Task<Result<LockedInode>> lay_out(Transaction& transaction, Allotment& allotment, InodeTable::NewPlace new_place,
                                    const LockedInode& directory, const NewNode& node, const NewInode& traits,
                                    bool named);
  Task<Result<>> remove(BlockNo directory, std::string name, bool is_directory);
  Task<Result<std::string>> read_long_target(const LockedInode& inode);

  struct Rename;
  Task<Result<std::vector<BlockNo>>> path_above(BlockNo directory);
  Task<Result<>> lock_directories(Rename& rename, BlockNo old_directory, BlockNo new_directory);
  Task<Result<bool>> find_names(Rename& rename);
  Task<Result<>> lock_moved(Rename& rename);
  Result<> check_rename(Rename& rename) const;
  Task<Result<>> prepare_rename(Rename& rename);
  Task<Result<>> carry_out(Rename& rename);

  Task<Result<>> change_attributes(const LockedInode& inode, const AttributeChange& change, Caller caller);
  std::uint32_t without_set_ids(const LockedInode& inode, const Caller& caller) const;
  Result<AttributeName> parse_name(std::string_view full) const;
  Task<Result<>> set_acl(const LockedInode& inode, AttributeName name, std::span<const std::byte> value,
                         bool kill_setgid);
  Task<Result<>> drop_privileges(const LockedInode& inode, bool kill_set_ids, Caller caller);

  Filesystem& fs_;
};

}  // namespace corral
