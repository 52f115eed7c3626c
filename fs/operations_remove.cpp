// Taking names away and moving them: unlink, rmdir, rename.
#include <algorithm>

#include <dirent.h>
#include <sys/stat.h>

#include "fs/filesystem.h"
#include "fs/operations.h"

namespace corral {

using namespace ondisk;

namespace {

void touch_ctime(Dinode& dinode, WallTime time) {
  dinode.ctime = static_cast<std::uint64_t>(time.seconds);
  dinode.ctime_nanoseconds = time.nanoseconds;
}

/// An inode that must keep its names.
bool is_protected(const LockedInode& inode) {
  return (inode.dinode().flags & (kDinodeImmutable | kDinodeAppendOnly)) != 0;
}

/// Takes one link away (a directory has just one name, and its own "."); true if it was the last.
bool drop_link(Transaction& transaction, const LockedInode& inode, WallTime time) {
  Dinode& dinode = inode.modify(transaction);
  const bool last = inode.is_directory() || dinode.nlink <= 1;
  dinode.nlink = last ? 0u : dinode.nlink - 1;
  touch_ctime(dinode, time);
  return last;
}

bool will_be_last(const LockedInode& inode) {
  return inode.is_directory() || inode.dinode().nlink <= 1;
}

}  // namespace

Task<Result<>> Operations::unlink(BlockNo directory, std::string name) {
  co_return co_await remove(directory, std::move(name), false);
}

Task<Result<>> Operations::remove_directory(BlockNo directory, std::string name) {
  co_return co_await remove(directory, std::move(name), true);
}

Task<Result<>> Operations::remove(BlockNo directory, std::string name, bool is_directory) {
  CO_TRY(const GlockHolder changing, co_await fs_.volume().change());
  InodeRef removed;
  {
    if (name == "." || name == "..") co_return fail(name == "." ? EINVAL : ENOTEMPTY);
    CO_TRY(LockedInode parent, co_await lock_to_change_names(directory, true));
    CO_TRY(Directories::Location location, co_await fs_.directories().locate(parent, name));
    if (location.entry.address == parent.address()) {
      co_return fail_corrupt("inode {}: its entry \"{}\" stands for itself", directory.value, name);
    }
    CO_TRY(removed, fs_.inodes().get(location.entry.address, location.entry.formal_number));
    CO_TRY(LockedInode child, co_await lock(removed, GlockMode::exclusive));
    if (is_protected(child)) co_return fail(EPERM);
    if (child.is_directory() != is_directory) co_return fail(is_directory ? ENOTDIR : EISDIR);
    if (is_directory && !Directories::is_empty(child)) co_return fail(ENOTEMPTY);

    std::optional<Release> release;
    if (will_be_last(child)) {
      CO_TRY(release, co_await fs_.allocator().prepare_release(std::vector<BlockNo>{child.address()}));
    }
    TransactionSize size;
    size.blocks = Directories::kRemoveLogBlocks + 1 + (release ? release->log_blocks() : 0);
    CO_TRY(Transaction transaction, co_await fs_.volume().journal->begin(size));
    if (release) {
      Result<> marked = release->set_unlinked(transaction, child.address());
      if (!marked) co_return std::unexpected(broken(marked.error()));
    }
    fs_.directories().remove(transaction, parent, location, name);
    child.inode().unlinked = drop_link(transaction, child, now());
  }
  fs_.reclaim_if_unused(removed);
  co_return Result<>{};
}

/// A rename step by step: what is locked and found, then what is changed.
struct Operations::Rename {
  RenameMode mode;
  std::string old_name;
  std::string new_name;
  LockedInode old_directory;
  LockedInode new_directory;          ///< not held where both are the same
  std::vector<BlockNo> above_source;  ///< directories above old_directory, where they differ
  std::vector<BlockNo> above_target;  ///< directories above new_directory, where they differ
  Directories::Location source;
  std::optional<Directories::Location> target;
  LockedInode moved;
  LockedInode replaced;  ///< not held if there is no target
  std::optional<Directories::Insertion> insertion;
  std::optional<Allotment> allotment;
  std::optional<Release> release;
  /// Where ".." of a directory that changes its parent stands.
  std::optional<Directories::Location> moved_parent;
  std::optional<Directories::Location> replaced_parent;

  LockedInode& target_directory() { return new_directory.held() ? new_directory : old_directory; }
  bool crosses() const { return new_directory.held(); }
};

/// The directories above `directory`, nearest first, up to the root. The tree's shape must be kept still
/// (rename_glock).
Task<Result<std::vector<BlockNo>>> Operations::path_above(BlockNo directory) {
  std::vector<BlockNo> path;
  CO_TRY(InodeRef at, co_await find(directory));
  while (at->address() != fs_.root()) {
    CO_TRY(LockedInode locked, co_await lock(at, GlockMode::shared));
    CO_TRY(DirectoryEntry parent, co_await fs_.directories().lookup(locked, ".."));
    locked.release();
    if (parent.address == at->address() || std::ranges::find(path, parent.address) != path.end()) {
      co_return fail_corrupt("inode {}: its chain of parents does not end at the root", directory.value);
    }
    path.push_back(parent.address);
    CO_TRY(at, fs_.inodes().get(parent.address, parent.formal_number));
  }
  co_return path;
}

Task<Result<>> Operations::rename(BlockNo old_directory, std::string old_name, BlockNo new_directory,
                                  std::string new_name, RenameMode mode) {
  CO_TRY(const GlockHolder changing, co_await fs_.volume().change());
  InodeRef gone;
  {
    GlockHolder still;
    if (old_directory != new_directory) {
      CO_TRY(still, co_await fs_.rename_glock().acquire(GlockMode::exclusive));
    }
    Rename rename;
    rename.mode = mode;
    rename.old_name = std::move(old_name);
    rename.new_name = std::move(new_name);
    CO_TRY_VOID(co_await lock_directories(rename, old_directory, new_directory));
    CO_TRY(bool nothing_to_do, co_await find_names(rename));
    if (nothing_to_do) co_return Result<>{};
    CO_TRY_VOID(check_rename(rename));
    CO_TRY_VOID(co_await prepare_rename(rename));
    CO_TRY_VOID(co_await carry_out(rename));
    if (rename.replaced.held() && rename.replaced.inode().unlinked) gone = rename.replaced.reference();
  }
  if (gone != nullptr) fs_.reclaim_if_unused(gone);
  co_return Result<>{};
}

Task<Result<>> Operations::lock_directories(Rename& rename, BlockNo old_directory, BlockNo new_directory) {
  if (old_directory == new_directory) {
    CO_TRY(rename.old_directory, co_await lock_to_change_names(old_directory, true));
    co_return Result<>{};
  }
  CO_TRY(std::vector<BlockNo> above_new, co_await path_above(new_directory));
  CO_TRY(std::vector<BlockNo> above_old, co_await path_above(old_directory));
  const bool new_below_old = std::ranges::find(above_new, old_directory) != above_new.end();
  const bool old_below_new = std::ranges::find(above_old, new_directory) != above_old.end();
  const bool new_first = old_below_new || (!new_below_old && new_directory < old_directory);
  rename.above_source = std::move(above_old);
  rename.above_target = std::move(above_new);
  if (new_first) {
    CO_TRY(rename.new_directory, co_await lock_to_change_names(new_directory, false));
  }
  CO_TRY(rename.old_directory, co_await lock_to_change_names(old_directory, true));
  if (!new_first) {
    CO_TRY(rename.new_directory, co_await lock_to_change_names(new_directory, false));
  }
  co_return Result<>{};
}

/// Locates both names and locks their inodes. True if they stand for the same inode: then there is nothing to do.
Task<Result<bool>> Operations::find_names(Rename& rename) {
  Directories& directories = fs_.directories();
  LockedInode& to = rename.target_directory();
  CO_TRY(rename.source, co_await directories.locate(rename.old_directory, rename.old_name));
  auto target = co_await directories.locate(to, rename.new_name);
  if (!target && target.error().code() != ENOENT) co_return std::unexpected(target.error());
  if (!target && rename.mode == RenameMode::exchange) co_return fail(ENOENT);
  if (target && rename.mode == RenameMode::no_replace) co_return fail(EEXIST);

  const BlockNo source = rename.source.entry.address;
  // One of the names stands for a directory that is locked already: it holds the other name.
  if (source == rename.old_directory.address() || source == to.address()) co_return fail(EINVAL);
  if (std::ranges::find(rename.above_target, source) != rename.above_target.end()) co_return fail(EINVAL);
  if (target) {
    const BlockNo over = target->entry.address;
    if (over == source) co_return true;
    if (over == rename.old_directory.address() || over == to.address() ||
        std::ranges::find(rename.above_source, over) != rename.above_source.end()) {
      co_return fail(rename.mode == RenameMode::exchange ? EINVAL : ENOTEMPTY);
    }
    rename.target = *target;
  }
  CO_TRY_VOID(co_await lock_moved(rename));
  co_return false;
}

/// Directories first, then by number.
Task<Result<>> Operations::lock_moved(Rename& rename) {
  const DirectoryEntry& source = rename.source.entry;
  CO_TRY(InodeRef moved, fs_.inodes().get(source.address, source.formal_number));
  InodeRef replaced;
  bool moved_first = true;
  if (rename.target) {
    const DirectoryEntry& over = rename.target->entry;
    CO_TRY(replaced, fs_.inodes().get(over.address, over.formal_number));
    const bool source_is_directory = source.type == DT_DIR;
    const bool over_is_directory = over.type == DT_DIR;
    moved_first = source_is_directory != over_is_directory ? source_is_directory : source.address < over.address;
  }
  if (moved_first) {
    CO_TRY(rename.moved, co_await lock(moved, GlockMode::exclusive));
  }
  if (replaced != nullptr) {
    CO_TRY(rename.replaced, co_await lock(replaced, GlockMode::exclusive));
  }
  if (!moved_first) {
    CO_TRY(rename.moved, co_await lock(moved, GlockMode::exclusive));
  }
  co_return Result<>{};
}

Result<> Operations::check_rename(Rename& rename) const {
  if (is_protected(rename.moved)) return fail(EPERM);
  if (!rename.replaced.held()) return {};
  if (is_protected(rename.replaced)) return fail(EPERM);
  if ((rename.target_directory().dinode().flags & kDinodeAppendOnly) != 0) return fail(EPERM);
  if (rename.mode == RenameMode::exchange) return {};
  if (rename.moved.is_directory() && !rename.replaced.is_directory()) return fail(ENOTDIR);
  if (!rename.moved.is_directory() && rename.replaced.is_directory()) return fail(EISDIR);
  if (rename.replaced.is_directory() && !Directories::is_empty(rename.replaced)) return fail(ENOTEMPTY);
  return {};
}

/// Finds room for the new name, reads what will change, locks resource groups.
Task<Result<>> Operations::prepare_rename(Rename& rename) {
  Directories& directories = fs_.directories();
  const bool exchanges = rename.mode == RenameMode::exchange;
  if (!rename.target) {
    CO_TRY(rename.insertion, co_await directories.prepare_insert(rename.target_directory(), rename.new_name));
  }
  if (rename.crosses() && rename.moved.is_directory()) {
    CO_TRY(rename.moved_parent, co_await directories.locate(rename.moved, ".."));
  }
  if (exchanges && rename.crosses() && rename.replaced.is_directory()) {
    CO_TRY(rename.replaced_parent, co_await directories.locate(rename.replaced, ".."));
  }
  AllotmentRequest request;
  std::vector<BlockNo> unlinked;
  if (rename.insertion) request.blocks = rename.insertion->new_blocks();
  request.goal = rename.target_directory().address();
  request.owner = ownership_of(rename.target_directory().dinode());
  if (rename.replaced.held() && !exchanges && will_be_last(rename.replaced)) {
    unlinked.push_back(rename.replaced.address());
  }
  // A name is either added or replaced: never both an allotment and a release.
  if (request.blocks != 0) {
    CO_TRY(rename.allotment, co_await fs_.allocator().allot(request));
  }
  if (!unlinked.empty()) {
    CO_TRY(rename.release, co_await fs_.allocator().prepare_release(unlinked));
  }
  co_return Result<>{};
}

Task<Result<>> Operations::carry_out(Rename& rename) {
  Directories& directories = fs_.directories();
  LockedInode& to = rename.target_directory();
  TransactionSize size;
  // Old name, new name, and ".." of both inodes; the inodes themselves.
  size.blocks = 4 * Directories::kRemoveLogBlocks + 2 + (rename.insertion ? rename.insertion->log_blocks() : 0) +
                (rename.allotment ? rename.allotment->log_blocks() : 0) +
                (rename.release ? rename.release->log_blocks() : 0);
  CO_TRY(Transaction transaction, co_await fs_.volume().journal->begin(size));
  const WallTime time = now();
  if (rename.release) {
    Result<> marked = rename.release->set_unlinked(transaction, rename.replaced.address());
    if (!marked) co_return std::unexpected(broken(marked.error()));
  }
  const DirectoryEntry moved = rename.source.entry;
  if (rename.target) {
    const DirectoryEntry over = rename.target->entry;
    directories.replace(transaction, to, *rename.target, rename.new_name, moved);
    if (rename.mode == RenameMode::exchange) {
      directories.replace(transaction, rename.old_directory, rename.source, rename.old_name, over);
    } else {
      directories.remove(transaction, rename.old_directory, rename.source, rename.old_name);
      rename.replaced.inode().unlinked = drop_link(transaction, rename.replaced, time);
    }
  } else {
    Result<> inserted = co_await directories.insert(transaction, rename.allotment ? &*rename.allotment : nullptr, to,
                                                    std::move(*rename.insertion), rename.new_name, moved);
    if (!inserted) co_return std::unexpected(broken(inserted.error()));
    // The insertion may have moved the old name to another leaf.
    Result<> removed = co_await directories.remove(transaction, rename.old_directory, rename.old_name);
    if (!removed) co_return std::unexpected(broken(removed.error()));
  }
  if (rename.moved_parent) {
    directories.replace(transaction, rename.moved, *rename.moved_parent, "..",
                        {to.address(), to.inode().formal_number(), DT_DIR});
  }
  if (rename.replaced_parent) {
    directories.replace(transaction, rename.replaced, *rename.replaced_parent, "..",
                        {rename.old_directory.address(), rename.old_directory.inode().formal_number(), DT_DIR});
  }
  touch_ctime(rename.moved.modify(transaction), time);
  if (rename.replaced.held()) touch_ctime(rename.replaced.modify(transaction), time);
  co_return Result<>{};
}

}  // namespace corral
