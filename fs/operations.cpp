#include "fs/operations.h"

#include <algorithm>

#include <dirent.h>
#include <sys/stat.h>

#include "fs/filesystem.h"
#include "fs/symlink_target.h"

namespace corral {

namespace {
WallTime wall_time(std::uint64_t seconds, std::uint32_t nanoseconds) {
  return {static_cast<std::int64_t>(seconds), nanoseconds};
}
}  // namespace

Attributes attributes_of(const ondisk::Dinode& dinode, const ondisk::Geometry& geometry) {
  Attributes attributes;
  attributes.inode = BlockNo(dinode.num.addr);
  attributes.generation = dinode.num.formal_ino;
  attributes.mode = dinode.mode;
  attributes.nlink = dinode.nlink;
  attributes.uid = dinode.uid;
  attributes.gid = dinode.gid;
  attributes.device_major = dinode.major;
  attributes.device_minor = dinode.minor;
  attributes.size_bytes = S_ISLNK(dinode.mode) ? target_bytes(dinode) : std::uint64_t{dinode.size};
  attributes.blocks_512 = dinode.blocks << (geometry.block_shift() - 9);
  attributes.atime = wall_time(dinode.atime, dinode.atime_nanoseconds);
  attributes.mtime = wall_time(dinode.mtime, dinode.mtime_nanoseconds);
  attributes.ctime = wall_time(dinode.ctime, dinode.ctime_nanoseconds);
  attributes.flags = dinode.flags;
  return attributes;
}

WallTime Operations::now() const {
  return fs_.volume().clock.wall();
}

Error Operations::broken(const Error& error) {
  fs_.volume().withdraw(error);
  return Error(EIO, error.message(), error.kind());
}

Task<Result<Entry>> Operations::enter(const LockedInode& inode) {
  // What nobody here refers to and has no links may have been freed already; its dinode still looks the same.
  const Inode& known = inode.inode();
  if (inode.dinode().nlink == 0 && known.lookups == 0 && known.opens == 0) co_return fail(ESTALE);
  CO_TRY_VOID(co_await fs_.inodes().pin(inode.reference()));
  co_return entered(inode);
}

Entry Operations::entered(const LockedInode& inode) {
  ++inode.inode().lookups;
  return Entry{attributes_of(inode.dinode(), fs_.volume().geometry)};
}

Task<Result<LockedInode>> Operations::lock(InodeRef inode, GlockMode mode) {
  CO_TRY(LockedInode locked, co_await fs_.inodes().lock(std::move(inode), mode));
  if (mode == GlockMode::exclusive && (locked.dinode().flags & ondisk::kDinodeTruncateInProgress) != 0) {
    // Who only reads does not wait for the end of a freeze.
    if (const auto changing = fs_.volume().try_join_change()) CO_TRY_VOID(co_await fs_.data().resume_truncate(locked));
  }
  co_return locked;
}

Task<Result<LockedInode>> Operations::lock(BlockNo inode, GlockMode mode) {
  CO_TRY(InodeRef known, co_await find(inode));
  co_return co_await lock(std::move(known), mode);
}

Task<Result<InodeRef>> Operations::find(BlockNo inode) {
  InodeRef known = fs_.inodes().find(inode);
  if (known == nullptr) co_return fail(ESTALE);
  if (known->lookups != 0 && !fs_.inodes().is_certain(*known)) co_return co_await find_again(std::move(known));
  co_return known;
}

/// Nobody of this life has kept others from freeing it since the kernel came to know it.
Task<Result<InodeRef>> Operations::find_again(InodeRef known) {
  CO_TRY(const std::uint64_t number, co_await number_on_disk(known->address()));
  if (number != known->formal_number()) co_return fail(ESTALE);
  CO_TRY(LockedInode locked, co_await fs_.inodes().lock(known, GlockMode::shared));
  if (locked.dinode().nlink == 0) co_return fail(ESTALE);
  CO_TRY_VOID(co_await fs_.inodes().pin(known));
  co_return known;
}

Task<Result<std::uint64_t>> Operations::number_on_disk(BlockNo address) {
  auto state = co_await fs_.allocator().state_of(address);
  if (!state || *state != ondisk::BlockState::dinode) co_return fail(ESTALE);
  GlockRef glock = fs_.volume().glocks.get(GlockType::inode, address.value);
  CO_TRY(GlockHolder holder, co_await glock->acquire(GlockMode::shared));
  auto block = co_await fs_.volume().cache.read(glock->blocks(), address, ondisk::check_dinode);
  if (!block) co_return fail(ESTALE);
  co_return (*block)->as<ondisk::Dinode>().num.formal_ino;
}

Task<Result<LockedInode>> Operations::lock_to_change(BlockNo inode) {
  CO_TRY_VOID(fs_.volume().check_writable());
  co_return co_await lock(inode, GlockMode::exclusive);
}

Task<Result<LockedInode>> Operations::lock_to_change_names(BlockNo directory, bool removes) {
  CO_TRY(LockedInode locked, co_await lock_to_change(directory));
  if (!locked.is_directory()) co_return fail(ENOTDIR);
  if (locked.dinode().nlink == 0) co_return fail(ENOENT);
  std::uint32_t forbidding = ondisk::kDinodeImmutable | (removes ? ondisk::kDinodeAppendOnly : 0);
  if ((locked.dinode().flags & forbidding) != 0) co_return fail(EPERM);
  co_return locked;
}

Task<Result<Entry>> Operations::lookup(BlockNo directory, std::string name) {
  if (name.size() > ondisk::kNameMaxBytes) co_return fail(ENAMETOOLONG);
  CO_TRY(LockedInode locked, co_await lock(directory, GlockMode::shared));
  if (!locked.is_directory()) co_return fail(ENOTDIR);
  CO_TRY(DirectoryEntry found, co_await fs_.directories().lookup(locked, name));
  if (found.address == locked.address()) co_return co_await enter(locked);
  co_await read_ahead_of_lookups(locked, found.address);
  CO_TRY(InodeRef inode, fs_.inodes().get(found.address, found.formal_number));
  CO_TRY(LockedInode child, co_await lock(std::move(inode), GlockMode::shared));
  co_return co_await enter(child);
}

Task<Result<Entry>> Operations::lookup_handle(BlockNo address, std::optional<std::uint64_t> generation) {
  InodeRef inode;
  if (fs_.inodes().find(address) != nullptr) {
    CO_TRY(inode, co_await find(address));
  } else {
    CO_TRY(const std::uint64_t number, co_await number_on_disk(address));
    CO_TRY(inode, fs_.inodes().get(address, number));
  }
  if (generation && *generation != inode->formal_number()) co_return fail(ESTALE);
  CO_TRY(LockedInode locked, co_await lock(std::move(inode), GlockMode::shared));
  if (locked.dinode().nlink == 0 || (locked.dinode().flags & ondisk::kDinodeSystem) != 0) co_return fail(ESTALE);
  co_return co_await enter(locked);
}

Task<Result<Entry>> Operations::lookup_parent(BlockNo directory) {
  CO_TRY(LockedInode locked, co_await lock(directory, GlockMode::shared));
  if (!locked.is_directory()) co_return fail(ENOTDIR);
  CO_TRY(DirectoryEntry found, co_await fs_.directories().lookup(locked, ".."));
  if (found.address == locked.address()) co_return co_await enter(locked);
  // The parent comes before its child in the order of locks.
  locked.release();
  CO_TRY(InodeRef inode, fs_.inodes().get(found.address, found.formal_number));
  CO_TRY(LockedInode parent, co_await lock(std::move(inode), GlockMode::shared));
  co_return co_await enter(parent);
}

void Operations::forget(BlockNo inode, std::uint64_t count) {
  InodeRef known = fs_.inodes().find(inode);
  if (known == nullptr) return;
  known->lookups -= std::min(count, known->lookups);
  fs_.reclaim_if_unused(known);
}

Task<Result<std::string>> Operations::read_link(BlockNo inode) {
  CO_TRY(LockedInode locked, co_await lock(inode, GlockMode::shared));
  if (!locked.is_symlink()) co_return fail(EINVAL);
  if (target_is_attribute(locked.dinode())) co_return co_await read_long_target(locked);
  const std::uint64_t length = locked.size_bytes();
  if (!locked.is_stuffed() || length > fs_.volume().geometry.stuffed_bytes()) {
    co_return fail_corrupt("inode {}: a symbolic link of {} bytes and height {}, expected at most {} within the inode",
                           inode.value, length, locked.dinode().height.value(), fs_.volume().geometry.stuffed_bytes());
  }
  const auto* target = reinterpret_cast<const char*>(locked.bytes().data() + sizeof(ondisk::Dinode));
  co_return std::string(target, length);
}

Task<Result<std::string>> Operations::read_long_target(const LockedInode& inode) {
  auto target = co_await fs_.attributes().get(inode, kSymlinkTarget);
  if (!target && target.error().code() != ENODATA) co_return std::unexpected(target.error());
  if (!target || target->size() != target_bytes(inode.dinode())) {
    co_return fail_corrupt("inode {}: a symbolic link whose attribute {} has {} bytes, expected {}",
                           inode.address().value, kSymlinkTarget.full(), target ? target->size() : 0,
                           target_bytes(inode.dinode()));
  }
  co_return std::string(reinterpret_cast<const char*>(target->data()), target->size());
}

Task<Result<>> Operations::list(BlockNo directory, DirectoryCookie cookie, Directories::Sink sink) {
  CO_TRY(LockedInode locked, co_await lock(directory, GlockMode::shared));
  if (!locked.is_directory()) co_return fail(ENOTDIR);
  co_return co_await fs_.directories().list(locked, cookie, sink);
}

namespace {
/// Entries that are listed before their dinodes are taken.
constexpr std::size_t kEntriesPerStep = 128;

struct ListedName {
  std::string name;
  DirectoryEntry entry;
  DirectoryCookie next;
};

/// What is read while another node may change it must not be cached. A glock that is waited for, here or elsewhere, may
/// be on its way down, with what is cached already forgotten.
bool may_read_under(const Glock& glock) {
  return !glock.overdue() && !glock.contended() && covers(glock.node_mode(), GlockMode::shared);
}

bool is_dot(std::string_view name) {
  return name == "." || name == "..";
}
}  // namespace

/// Starts reading the dinodes of the entries from `cookie` on that are not in memory. Returns the cookie behind them, 0
/// at the end. What cannot be read shows when it is asked for.
Task<DirectoryCookie> Operations::read_dinodes_ahead(const LockedInode& directory, DirectoryCookie cookie,
                                                     std::size_t entries) {
  std::vector<GlockRef> glocks;
  std::size_t listed = 0;
  DirectoryCookie reached = 0;
  auto collect = [&](std::string_view name, const DirectoryEntry& entry, DirectoryCookie next) {
    reached = next;
    if (!is_dot(name) && !fs_.volume().cache.contains(entry.address)) {
      GlockRef glock = fs_.volume().glocks.get(GlockType::inode, entry.address.value);
      if (may_read_under(*glock)) glocks.push_back(std::move(glock));
    }
    return ++listed < entries;
  };
  Result<> done = co_await fs_.directories().list(directory, cookie, collect);
  std::vector<BlockCache::Wanted> wanted;
  for (const GlockRef& glock : glocks) {
    // It may have gone down while leaves were read.
    if (may_read_under(*glock)) wanted.push_back({&glock->blocks(), BlockNo(glock->name().number)});
  }
  fs_.volume().cache.read_ahead(std::move(wanted), ondisk::check_dinode);
  const bool at_end = !done || listed < entries;
  co_return at_end ? 0 : reached;
}

Task<void> Operations::read_ahead_of_lookups(const LockedInode& directory, BlockNo wanted) {
  std::unique_ptr<LookupAhead>& ahead = directory.inode().lookup_ahead;
  const bool in_memory = fs_.volume().cache.contains(wanted);
  if (ahead == nullptr) {
    if (in_memory) co_return;
    ahead = std::make_unique<LookupAhead>();
  }
  if (std::size_t entries = ahead->note(in_memory); entries != 0) {
    // The inode, and what it owns, stays as long as it is locked.
    ahead->advance(co_await read_dinodes_ahead(directory, ahead->next(), entries));
  }
}

Task<Result<>> Operations::list_plus(BlockNo directory, DirectoryCookie cookie, EntrySink sink) {
  CO_TRY(LockedInode locked, co_await lock(directory, GlockMode::shared));
  if (!locked.is_directory()) co_return fail(ENOTDIR);
  // The kernel begins every listing with attributes, and goes on with them only where they are used.
  const std::size_t entries_ahead = cookie == 0 ? kEntriesPerStep : LookupAhead::kMostEntries;
  for (;;) {
    std::vector<ListedName> names;
    auto collect = [&names](std::string_view name, const DirectoryEntry& entry, DirectoryCookie next) {
      names.push_back({std::string(name), entry, next});
      return names.size() < kEntriesPerStep;
    };
    CO_TRY_VOID(co_await fs_.directories().list(locked, cookie, collect));
    if (names.empty()) co_return Result<>{};
    const bool all_in_memory = std::ranges::all_of(names, [this](const ListedName& listed) {
      return is_dot(listed.name) || fs_.volume().cache.contains(listed.entry.address);
    });
    if (!all_in_memory) co_await read_dinodes_ahead(locked, cookie, entries_ahead);
    for (const ListedName& listed : names) {
      // Only the name is answered for "." and "..": their inodes are above this one in the order of locks.
      InodeRef inode;
      if (!is_dot(listed.name))
        inode = fs_.inodes().get(listed.entry.address, listed.entry.formal_number).value_or(nullptr);
      Entry entry;
      entry.attributes.inode = listed.entry.address;
      entry.attributes.mode = static_cast<std::uint32_t>(DTTOIF(listed.entry.type));
      if (inode != nullptr) {
        // A damaged inode must not hide the names beside it.
        auto child = co_await lock(inode, GlockMode::shared);
        if (child && co_await fs_.inodes().pin(inode)) {
          entry.attributes = attributes_of(child->dinode(), fs_.volume().geometry);
        } else {
          inode = nullptr;
        }
      }
      if (!sink(listed.name, entry, listed.next)) co_return Result<>{};
      if (inode != nullptr) ++inode->lookups;
      cookie = listed.next;
    }
  }
}

Task<Result<>> Operations::sync() {
  CO_TRY_VOID(co_await fs_.data().write_back_all());
  if (fs_.volume().journal == nullptr) co_return Result<>{};
  if (fs_.volume().withdrawn) co_return fail(EIO);
  co_return co_await fs_.volume().journal->flush_with_device();
}

Task<Result<Operations::Statistics>> Operations::statistics() {
  CO_TRY(SpaceFigures figures, co_await fs_.allocator().figures());
  co_return Statistics{.blocks = figures.total_blocks,
                       .free_blocks = figures.free_blocks,
                       .inodes = figures.dinodes + figures.free_blocks,
                       .free_inodes = figures.free_blocks,
                       .block_size_bytes = fs_.volume().geometry.block_size(),
                       .name_max_bytes = ondisk::kNameMaxBytes};
}

Task<Result<std::uint64_t>> Operations::trim(std::uint64_t start_bytes, std::uint64_t length_bytes,
                                             std::uint64_t minimum_bytes) {
  CO_TRY_VOID(fs_.volume().check_writable());
  co_return co_await fs_.allocator().trim(start_bytes, length_bytes, minimum_bytes);
}

}  // namespace corral
