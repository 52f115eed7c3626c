// Making inodes: mknod, mkdir, symlink, O_TMPFILE, link.
#include <algorithm>
#include <cstring>

#include <dirent.h>
#include <sys/stat.h>

#include "fs/filesystem.h"
#include "fs/operations.h"
#include "fs/symlink_target.h"

namespace corral {

using namespace ondisk;

/// What a new inode takes from its maker and its directory.
struct Operations::NewInode {
  std::uint32_t mode = 0;
  Ownership owner;
  std::uint32_t flags = 0;
  std::vector<ExtendedAttributes::Initial> attributes;
  std::uint32_t attribute_blocks = 0;
};

Task<Result<Operations::NewInode>> Operations::inherit(const LockedInode& directory, const NewNode& node,
                                                       Caller caller) {
  NewInode traits;
  const Dinode& parent = directory.dinode();
  traits.mode = node.mode;
  traits.owner = {.uid = caller.uid, .gid = caller.gid};
  if ((parent.mode & S_ISGID) != 0) {
    traits.owner.gid = parent.gid;
    if (S_ISDIR(node.mode)) traits.mode |= S_ISGID;
  }
  if ((parent.flags & kDinodeInheritJournaledData) != 0) {
    if (S_ISREG(node.mode)) traits.flags |= kDinodeJournaledData;
    if (S_ISDIR(node.mode)) traits.flags |= kDinodeInheritJournaledData;
  }
  if (S_ISLNK(node.mode)) {
    if (!fits_in_dinode(fs_.volume().geometry, node.symlink_target)) {
      auto target = std::as_bytes(std::span(node.symlink_target));
      traits.attributes.push_back({kSymlinkTarget, {target.begin(), target.end()}});
      CO_TRY(traits.attribute_blocks, fs_.attributes().initial_blocks(traits.attributes));
    }
    co_return traits;
  }

  const AttributeName default_acl{EaType::system, "posix_acl_default"};
  if (!fs_.volume().options.acl || parent.eattr == 0) {
    traits.mode &= ~caller.umask;
    co_return traits;
  }
  auto value = co_await fs_.attributes().get(directory, default_acl);
  if (!value) {
    if (value.error().code() != ENODATA) co_return std::unexpected(value.error());
    traits.mode &= ~caller.umask;
    co_return traits;
  }
  auto acl = Acl::parse(*value);
  if (!acl) {
    co_return fail_corrupt("inode {}: its default ACL is damaged: {}", directory.address().value,
                           acl.error().describe());
  }
  AclInheritance inherited = acl->inherit(traits.mode);
  traits.mode = inherited.mode;
  if (S_ISDIR(node.mode)) traits.attributes.push_back({default_acl, *value});
  if (inherited.access) {
    traits.attributes.push_back({{EaType::system, "posix_acl_access"}, inherited.access->serialize()});
  }
  CO_TRY(traits.attribute_blocks, fs_.attributes().initial_blocks(traits.attributes));
  co_return traits;
}

Task<Result<LockedInode>> Operations::lay_out(Transaction& transaction, Allotment& allotment,
                                              InodeTable::NewPlace new_place, const LockedInode& directory,
                                              const NewNode& node, const NewInode& traits, bool named) {
  CO_TRY(Allotment::NewDinode place,
         allotment.take_dinode(transaction, named ? BlockState::dinode : BlockState::unlinked));
  CO_TRY(LockedInode inode, fs_.inodes().make(std::move(new_place), place.generation));
  std::span<std::byte> block = transaction.modify(inode.block());
  auto& dinode = view<Dinode>(block);
  dinode.header.set(MetaType::dinode);
  dinode.num = {.formal_ino = place.generation, .addr = place.block.value};
  dinode.mode = traits.mode;
  dinode.uid = traits.owner.uid;
  dinode.gid = traits.owner.gid;
  dinode.nlink = named ? 1u : 0u;
  dinode.blocks = 1u;
  const WallTime time = now();
  dinode.atime = dinode.mtime = dinode.ctime = static_cast<std::uint64_t>(time.seconds);
  dinode.atime_nanoseconds = dinode.mtime_nanoseconds = dinode.ctime_nanoseconds = time.nanoseconds;
  dinode.major = node.device_major;
  dinode.minor = node.device_minor;
  dinode.goal_meta = dinode.goal_data = place.block.value;
  dinode.generation = place.generation;
  dinode.flags = traits.flags;
  if (S_ISDIR(traits.mode)) {
    const DirectoryEntry self{place.block, place.generation, DT_DIR};
    const DirectoryEntry parent{directory.address(), directory.inode().formal_number(), DT_DIR};
    Directories::initialize(block, self, parent);
  } else if (S_ISLNK(traits.mode)) {
    const Geometry& geometry = fs_.volume().geometry;
    const std::string contents = symlink_contents(geometry, node.symlink_target);
    dinode.size = contents.size();
    std::memcpy(block.data() + sizeof(Dinode), contents.data(), contents.size());
    if (!fits_in_dinode(geometry, node.symlink_target)) {
      dinode.entries = static_cast<std::uint32_t>(node.symlink_target.size());
    }
  }
  if (!traits.attributes.empty()) {
    CO_TRY_VOID(fs_.attributes().set_initial(transaction, allotment, inode, traits.attributes));
  }
  inode.inode().unlinked = !named;
  co_return inode;
}

/// A place for a new inode, with its glock, and the allotment that it is taken from.
Task<Result<InodeTable::NewPlace>> Operations::find_place(AllotmentRequest request, Allotment& allotment) {
  GlockHolder waited_for;
  for (;;) {
    request.may_wait_for_frees = !waited_for.held();
    auto allotted = co_await fs_.allocator().allot(request);
    if (!allotted && allotted.error().code() == ENOSPC && waited_for.held()) {
      waited_for.release();
      continue;
    }
    CO_TRY(allotment, std::move(allotted));
    CO_TRY(const BlockNo block, allotment.set_dinode_aside());
    CO_TRY(std::optional<InodeTable::NewPlace> place, co_await fs_.inodes().claim(block, std::move(waited_for)));
    if (place) co_return *std::move(place);
    // Somebody still looks at what the block was before. He may wait for the resource group. The glock is kept until
    // the group is had again: given up in between it would go to another node that is after the same block, and back,
    // with nobody getting on.
    allotment = Allotment();
    GlockRef glock = fs_.volume().glocks.get(GlockType::inode, block.value);
    CO_TRY(waited_for, co_await glock->acquire(GlockMode::exclusive));
  }
}

Task<Result<Entry>> Operations::make(BlockNo directory, std::string name, NewNode node, Caller caller, bool named) {
  CO_TRY(const GlockHolder changing, co_await fs_.volume().change());
  CO_TRY(LockedInode parent, co_await lock_to_change_names(directory, false));
  Directories::Insertion insertion;
  if (named) {
    CO_TRY(insertion, co_await fs_.directories().prepare_insert(parent, name));
  }
  if (S_ISDIR(node.mode) && parent.dinode().nlink == UINT32_MAX) co_return fail(EMLINK);
  CO_TRY(NewInode traits, co_await inherit(parent, node, caller));

  const std::uint32_t names_new_blocks = named ? insertion.new_blocks() : 0;
  AllotmentRequest request;
  request.goal = parent.address();
  request.blocks = 1 + traits.attribute_blocks + names_new_blocks;
  request.dinodes = 1;
  request.owner = traits.owner;
  request.exempt_from_limits = caller.uid == 0;
  request.spread =
      S_ISDIR(node.mode) && (directory == fs_.root() || (parent.dinode().flags & kDinodeTopDirectory) != 0);
  Allotment allotment;
  CO_TRY(InodeTable::NewPlace place, co_await find_place(request, allotment));

  TransactionSize size;
  size.blocks = 1 + traits.attribute_blocks + allotment.log_blocks() + (named ? insertion.log_blocks() : 0);
  CO_TRY(Transaction transaction, co_await fs_.volume().journal->begin(size));
  auto inode = co_await lay_out(transaction, allotment, std::move(place), parent, node, traits, named);
  if (!inode) co_return std::unexpected(broken(inode.error()));
  if (named) {
    const DirectoryEntry entry{inode->address(), inode->inode().formal_number(),
                               static_cast<std::uint8_t>(IFTODT(traits.mode))};
    Result<> inserted =
        co_await fs_.directories().insert(transaction, &allotment, parent, std::move(insertion), name, entry);
    if (!inserted) co_return std::unexpected(broken(inserted.error()));
  }
  co_return entered(*inode);
}

Task<Result<Entry>> Operations::create(BlockNo directory, std::string name, NewNode node, Caller caller) {
  if (S_ISLNK(node.mode)) {
    if (node.symlink_target.empty()) co_return fail(ENOENT);
    if (node.symlink_target.size() > kSymlinkTargetMaxBytes) co_return fail(ENAMETOOLONG);
  }
  co_return co_await make(directory, std::move(name), std::move(node), caller, true);
}

Task<Result<Entry>> Operations::create_unnamed(BlockNo directory, std::uint32_t mode, Caller caller) {
  NewNode node;
  node.mode = S_IFREG | (mode & 07777);
  co_return co_await make(directory, {}, std::move(node), caller, false);
}

Task<Result<Entry>> Operations::link(BlockNo target, BlockNo directory, std::string name) {
  CO_TRY(const GlockHolder changing, co_await fs_.volume().change());
  CO_TRY(LockedInode parent, co_await lock_to_change_names(directory, false));
  if (target == directory) co_return fail(EPERM);
  CO_TRY(LockedInode inode, co_await lock(target, GlockMode::exclusive));
  if (inode.is_directory()) co_return fail(EPERM);
  if ((inode.dinode().flags & (kDinodeImmutable | kDinodeAppendOnly)) != 0) co_return fail(EPERM);
  if (inode.dinode().nlink == UINT32_MAX) co_return fail(EMLINK);
  CO_TRY_VOID(co_await fs_.inodes().pin(inode.reference()));
  const bool was_unnamed = inode.dinode().nlink == 0;
  if (was_unnamed && !inode.inode().unlinked) co_return fail(ENOENT);
  CO_TRY(Directories::Insertion insertion, co_await fs_.directories().prepare_insert(parent, name));

  AllotmentRequest request;
  request.goal = parent.address();
  request.blocks = insertion.new_blocks();
  request.owner = ownership_of(parent.dinode());
  std::vector<BlockNo> relinked;
  if (was_unnamed) relinked.push_back(inode.address());
  std::optional<Allotment> allotment;
  std::optional<Release> release;
  if (insertion.new_blocks() != 0 && was_unnamed) {
    CO_TRY(auto both, co_await fs_.allocator().allot_and_release(request, relinked));
    allotment.emplace(std::move(both.first));
    release.emplace(std::move(both.second));
  } else if (insertion.new_blocks() != 0) {
    CO_TRY(allotment, co_await fs_.allocator().allot(request));
  } else if (was_unnamed) {
    CO_TRY(release, co_await fs_.allocator().prepare_release(relinked));
  }

  TransactionSize size;
  size.blocks =
      1 + insertion.log_blocks() + (allotment ? allotment->log_blocks() : 0) + (release ? release->log_blocks() : 0);
  CO_TRY(Transaction transaction, co_await fs_.volume().journal->begin(size));
  if (was_unnamed) {
    Result<> linked = release->set_linked(transaction, inode.address());
    if (!linked) co_return std::unexpected(broken(linked.error()));
  }
  const DirectoryEntry entry{inode.address(), inode.inode().formal_number(),
                             static_cast<std::uint8_t>(IFTODT(inode.mode_bits()))};
  Result<> inserted = co_await fs_.directories().insert(transaction, allotment ? &*allotment : nullptr, parent,
                                                        std::move(insertion), name, entry);
  if (!inserted) co_return std::unexpected(broken(inserted.error()));
  Dinode& dinode = inode.modify(transaction);
  dinode.nlink = dinode.nlink + 1;
  const WallTime time = now();
  dinode.ctime = static_cast<std::uint64_t>(time.seconds);
  dinode.ctime_nanoseconds = time.nanoseconds;
  inode.inode().unlinked = false;
  co_return entered(inode);
}

}  // namespace corral
