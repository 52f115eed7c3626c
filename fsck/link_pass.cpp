#include "fsck/link_pass.h"

#include <algorithm>
#include <unordered_map>

#include <dirent.h>
#include <sys/stat.h>

#include "fsck/directory_layout.h"
#include "fsck/inode_pass.h"
#include "fsck/naming.h"
#include "fsck/walk_policies.h"
#include "ondisk/dirent_walker.h"
#include "ondisk/validate.h"

namespace corral::fsck {

using namespace ondisk;

namespace {

constexpr std::string_view kLostAndFound = "lost+found";

std::string orphan_name(const InodeRecord& inode) {
  std::string_view kind = "file";
  if (inode.type == DT_DIR) kind = "dir";
  if (inode.type == DT_LNK) kind = "link";
  if (inode.type == DT_CHR || inode.type == DT_BLK) kind = "dev";
  if (inode.type == DT_FIFO) kind = "fifo";
  if (inode.type == DT_SOCK) kind = "socket";
  return fmt::format("lost_{}_{}", kind, inode.address);
}

/// Removes the one entry for `child`.
class RemoveEntry final : public FollowBlocks {
 public:
  RemoveEntry(Volume& volume, BlockNo child) : FollowBlocks(volume), child_(child) {}
  bool see_dirent_block(BlockNo, std::span<std::byte> block, bool) override {
    std::size_t before = 0;
    for (std::size_t offset = first_dirent_bytes(block); offset < block.size();) {
      const auto& dirent = view<Dirent>(block, offset);
      const std::string_view name = name_of(dirent);
      if (!is_unused(dirent) && dirent.inum.addr == child_.value && name != "." && name != "..") {
        remove_dirent(block, before, offset);
        if (has_meta_type(block, MetaType::leaf))
          view<Leaf>(block).entries = static_cast<std::uint16_t>(view<Leaf>(block).entries - 1);
        removed = true;
        return true;
      }
      before = offset;
      offset += dirent.record_length;
    }
    return false;
  }
  bool removed = false;

 private:
  BlockNo child_;
};

/// Lets ".." lead to the parent.
class SetDotDot final : public FollowBlocks {
 public:
  SetDotDot(Volume& volume, InodeIdentity parent) : FollowBlocks(volume), parent_(parent) {}
  bool see_dirent_block(BlockNo, std::span<std::byte> block, bool) override {
    for (std::size_t offset = first_dirent_bytes(block); offset < block.size();) {
      auto& dirent = view<Dirent>(block, offset);
      offset += dirent.record_length;
      if (is_unused(dirent) || name_of(dirent) != "..") continue;
      dirent.inum = parent_;
      dirent.type = DT_DIR;
      return true;
    }
    return false;
  }

 private:
  InodeIdentity parent_;
};

class OrphanPass {
 public:
  explicit OrphanPass(Volume& volume) : volume_(volume) {}
  Task<Result<>> run();

 private:
  Task<Result<>> break_cycles();
  Task<Result<>> cut_off(DirectoryRecord& directory);
  Task<Result<bool>> free_if_deleted(InodeRecord& inode);
  Task<Result<>> reconnect(std::vector<BlockNo> orphans);
  Task<Result<BlockNo>> lost_and_found();

  Volume& volume_;
};

Task<Result<>> OrphanPass::cut_off(DirectoryRecord& directory) {
  const BlockNo parent(directory.parent);
  if (!volume_.found(Kind::directory, BlockNo(directory.address),
                     fmt::format("directory {} lies below itself", directory.address),
                     fmt::format("remove its name from directory {}", parent.value)))
    co_return Result<>{};
  CO_TRY(BlockBytes block, co_await volume_.read(parent));
  RemoveEntry remove(volume_, BlockNo(directory.address));
  InodeWalk walk(volume_, parent, block, remove);
  CO_TRY_VOID(co_await walk.run());
  if (!remove.removed) co_return Result<>{};
  view<Dinode>(block).entries = view<Dinode>(block).entries - 1;
  volume_.write(parent, block);
  --volume_.inodes.find(parent)->names;
  --volume_.inodes.find(BlockNo(directory.address))->names;
  directory.parent = 0;
  co_return Result<>{};
}

/// Directories that hold each other and hang nowhere.
Task<Result<>> OrphanPass::break_cycles() {
  enum class Seen : std::uint8_t { no, now, done };
  auto& directories = volume_.inodes.directories();
  std::vector<Seen> seen(directories.size(), Seen::no);
  std::vector<std::size_t> way;
  for (std::size_t start = 0; start < directories.size(); ++start) {
    way.clear();
    std::size_t at = start;
    while (seen[at] == Seen::no) {
      seen[at] = Seen::now;
      way.push_back(at);
      const DirectoryRecord& here = directories[at];
      if (here.parent == 0 || here.parent == here.address) break;
      const DirectoryRecord* parent = volume_.inodes.find_directory(BlockNo(here.parent));
      if (parent == nullptr) break;
      at = static_cast<std::size_t>(parent - directories.data());
    }
    // Back at a directory of this way that is not its end: the way goes round.
    const bool round = seen[at] == Seen::now && way.back() != at;
    if (round) CO_TRY_VOID(co_await cut_off(directories[at]));
    for (std::size_t one : way)
      seen[one] = Seen::done;
  }
  co_return Result<>{};
}

/// Deleted while it was open: no name, and the bitmap says so.
Task<Result<bool>> OrphanPass::free_if_deleted(InodeRecord& inode) {
  const bool deleted = inode.is(InodeRecord::kUnlinked) && !(inode.type == DT_DIR && inode.names > 1);
  const bool leftover = inode.is(InodeRecord::kSystem);
  if (!deleted && !leftover) co_return false;
  const bool accepted =
      deleted ? volume_.found(Kind::unlinked_inode, inode.number(),
                              fmt::format("inode {} was deleted and is not freed", inode.address), "free it")
              : volume_.found(Kind::orphan, inode.number(),
                              fmt::format("inode {} is a system file without a name", inode.address), "free it");
  if (accepted) CO_TRY_VOID(co_await free_inode(volume_, inode.number()));
  co_return true;
}

/// The directory, which is made if it is not there.
Task<Result<BlockNo>> OrphanPass::lost_and_found() {
  CO_TRY(DirectoryContents root, co_await read_directory(volume_, volume_.root()));
  auto entry = std::ranges::find(root.entries, kLostAndFound, &NameEntry::name);
  if (entry != root.entries.end()) {
    const InodeRecord* inode = volume_.inodes.find(BlockNo(entry->inode.addr));
    if (inode != nullptr && inode->type == DT_DIR) co_return inode->number();
    co_return fail(EEXIST, "/lost+found is no directory");
  }
  co_return co_await make_inode(volume_, volume_.root(), std::string(kLostAndFound), S_IFDIR | 0700,
                                kDinodeJournaledData);
}

Task<Result<>> OrphanPass::reconnect(std::vector<BlockNo> orphans) {
  std::vector<NameEntry> names;
  for (BlockNo orphan : orphans) {
    const InodeRecord* inode = volume_.inodes.find(orphan);
    const std::string name = orphan_name(*inode);
    if (!volume_.found(Kind::orphan, orphan, fmt::format("inode {} has no name", orphan.value),
                       fmt::format("name it /lost+found/{}", name)))
      continue;
    names.push_back({name, {inode->formal_ino, inode->address}, inode->type});
  }
  if (names.empty()) co_return Result<>{};
  auto place = co_await lost_and_found();
  Result<> done = place ? Result<>{} : std::unexpected(place.error());
  if (place) {
    // A name that an earlier repair gave away is not given twice.
    CO_TRY(const DirectoryContents contents, co_await read_directory(volume_, *place));
    for (NameEntry& name : names)
      while (std::ranges::count(contents.entries, name.name, &NameEntry::name) > 0)
        name.name += "_";
    done = co_await add_names(volume_, *place, std::move(names));
  }
  co_return volume_.excuse(done);
}

Task<Result<>> OrphanPass::run() {
  CO_TRY_VOID(co_await break_cycles());
  std::vector<BlockNo> orphans;
  const std::size_t count = volume_.inodes.inodes().size();
  for (std::size_t i = 0; i < count; ++i) {
    InodeRecord& inode = volume_.inodes.inodes()[i];
    if (!volume_.inodes.is_nameless(inode)) continue;
    CO_TRY(const bool deleted, co_await free_if_deleted(inode));
    if (!deleted) orphans.push_back(inode.number());
  }
  co_return co_await reconnect(std::move(orphans));
}

}  // namespace

Task<Result<>> reconnect_orphans(Volume& volume) {
  OrphanPass pass(volume);
  co_return co_await pass.run();
}

Task<Result<>> check_links(Volume& volume) {
  for (const DirectoryRecord& directory : volume.inodes.directories()) {
    const BlockNo address(directory.address);
    if (directory.parent == 0 || directory.parent == directory.dot_dot || volume.inodes.find(address) == nullptr)
      continue;
    const InodeRecord* parent = volume.inodes.find(BlockNo(directory.parent));
    if (parent == nullptr ||
        !volume.found(Kind::directory_entry, address,
                      fmt::format("directory {}: its \"..\" leads to block {}, expected directory {}", address.value,
                                  directory.dot_dot, directory.parent),
                      "let it lead there"))
      continue;
    CO_TRY(BlockBytes block, co_await volume.read(address));
    SetDotDot set(volume, {parent->formal_ino, parent->address});
    InodeWalk walk(volume, address, block, set);
    CO_TRY_VOID(co_await walk.run());
    if (walk.dinode_changed()) volume.write(address, block);
  }
  for (const InodeRecord& inode : volume.inodes.inodes()) {
    if (inode.is(InodeRecord::kGone) || inode.names == inode.link_count || inode.names == 0) continue;
    if (!volume.found(Kind::link_count, inode.number(),
                      fmt::format("inode {}: link count {}, expected {}", inode.address, inode.link_count, inode.names),
                      fmt::format("set it to {}", inode.names)))
      continue;
    CO_TRY(BlockBytes block, co_await volume.read(inode.number()));
    view<Dinode>(block).nlink = inode.names;
    volume.write(inode.number(), block);
  }
  co_return Result<>{};
}

}  // namespace corral::fsck
