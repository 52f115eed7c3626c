#include "fsck/directory_pass.h"

#include <algorithm>
#include <unordered_set>

#include <dirent.h>

#include "fsck/walk_policies.h"
#include "ondisk/checksum.h"
#include "ondisk/dirent_walker.h"
#include "ondisk/validate.h"

namespace corral::fsck {

using namespace ondisk;

namespace {

class CheckEntries final : public FollowBlocks {
 public:
  CheckEntries(Volume& volume, BlockNo directory)
      : FollowBlocks(volume), directory_(directory), self_(volume.inodes.find(directory)) {}

  bool see_dirent_block(BlockNo address, std::span<std::byte> block, bool starts_names) override;
  std::uint32_t entries() const { return entries_; }

 private:
  /// Why the entry cannot stay; empty if it can.
  std::string reason_to_remove(const Dirent& dirent, const InodeRecord* target);
  bool check_entry(BlockNo address, Dirent& dirent, bool& remove);
  bool check_fields(BlockNo address, Dirent& dirent, const InodeRecord& target);
  bool check_dots(BlockNo address, Dirent& dirent);
  bool check_leaf_count(BlockNo address, std::span<std::byte> block, std::uint32_t entries);
  std::string describe(const Dirent& dirent) const {
    return fmt::format("directory {}: entry {:?}", directory_.value, name_of(dirent));
  }

  BlockNo directory_;
  InodeRecord* self_;
  std::unordered_set<std::string> names_;
  std::uint32_t entries_ = 0;
};

std::string CheckEntries::reason_to_remove(const Dirent& dirent, const InodeRecord* target) {
  if (!is_valid_name(name_of(dirent))) return "has a name that no file can have";
  if (target == nullptr) return fmt::format("leads to block {}, where there is no inode", dirent.inum.addr.value());
  if (target->is(InodeRecord::kSystem) != self_->is(InodeRecord::kSystem))
    return fmt::format("leads to inode {}, which is {} system file", target->address,
                       self_->is(InodeRecord::kSystem) ? "no" : "a");
  if (names_.contains(std::string(name_of(dirent)))) return "stands there twice";
  if (target->type != DT_DIR) return {};
  if (target->number() == volume_.root() || target->number() == volume_.master() || target->number() == directory_)
    return fmt::format("leads to directory {}, which cannot be below this one", target->address);
  const DirectoryRecord* record = volume_.inodes.find_directory(target->number());
  if (record->parent != 0)
    return fmt::format("leads to directory {}, which has a name in directory {}", target->address, record->parent);
  return {};
}

bool CheckEntries::check_fields(BlockNo address, Dirent& dirent, const InodeRecord& target) {
  bool changed = false;
  auto mend = [&](auto& field, auto right, std::string_view what) {
    if (field == right) return;
    if (!volume_.found(Kind::directory_entry, address,
                       fmt::format("{}: {} {}, expected {}", describe(dirent), what, field.value(), right),
                       fmt::format("set it to {}", right)))
      return;
    field = right;
    changed = true;
  };
  mend(dirent.hash, name_hash(name_of(dirent)), "hash");
  mend(dirent.inum.formal_ino, target.formal_ino, "formal inode number");
  mend(dirent.type, std::uint16_t{target.type}, "type");
  return changed;
}

/// "." and "..": where ".." has to lead is known only when all directories have been read.
bool CheckEntries::check_dots(BlockNo address, Dirent& dirent) {
  if (name_of(dirent) == ".") {
    if (dirent.inum.addr == self_->address) return check_fields(address, dirent, *self_);
    if (!volume_.found(Kind::directory_entry, address,
                       fmt::format("{}: leads to block {}, expected the directory itself", describe(dirent),
                                   dirent.inum.addr.value()),
                       "let it lead there"))
      return false;
    dirent.inum = {self_->formal_ino, self_->address};
    check_fields(address, dirent, *self_);
    return true;
  }
  const InodeRecord* parent = volume_.inodes.find(BlockNo(dirent.inum.addr));
  return parent != nullptr && parent->type == DT_DIR && check_fields(address, dirent, *parent);
}

bool CheckEntries::check_entry(BlockNo address, Dirent& dirent, bool& remove) {
  const std::string name(name_of(dirent));
  if ((name == "." || name == "..") && names_.insert(name).second) return check_dots(address, dirent);
  InodeRecord* target = volume_.inodes.find(BlockNo(dirent.inum.addr));
  const std::string reason = reason_to_remove(dirent, target);
  if (!reason.empty()) {
    remove = volume_.found(Kind::directory_entry, address, fmt::format("{}: {}", describe(dirent), reason),
                           "remove the entry");
    return remove;
  }
  names_.insert(name);
  ++target->names;
  if (target->type == DT_DIR) {
    volume_.inodes.find_directory(target->number())->parent = directory_.value;
    ++self_->names;
  }
  return check_fields(address, dirent, *target);
}

bool CheckEntries::check_leaf_count(BlockNo address, std::span<std::byte> block, std::uint32_t entries) {
  if (!has_meta_type(block, MetaType::leaf)) return false;
  auto& leaf = view<Leaf>(block);
  if (leaf.entries == entries) return false;
  if (!volume_.found(Kind::directory, address,
                     fmt::format("directory {}: leaf {} counts {} entries, expected {}", directory_.value,
                                 address.value, leaf.entries.value(), entries),
                     fmt::format("set it to {}", entries)))
    return false;
  leaf.entries = static_cast<std::uint16_t>(entries);
  return true;
}

bool CheckEntries::see_dirent_block(BlockNo address, std::span<std::byte> block, bool starts_names) {
  if (starts_names) names_.clear();
  bool changed = false;
  std::uint32_t entries = 0;
  std::size_t before = 0;
  // The walk has found every record to be sound.
  for (std::size_t offset = first_dirent_bytes(block); offset < block.size();) {
    auto& dirent = view<Dirent>(block, offset);
    const std::size_t next = offset + dirent.record_length;
    bool remove = false;
    if (!is_unused(dirent)) {
      changed |= check_entry(address, dirent, remove);
      if (!remove) ++entries;
    }
    if (remove) {
      remove_dirent(block, before, offset);
      if (before == 0) before = offset;
    } else {
      before = offset;
    }
    offset = next;
  }
  changed |= check_leaf_count(address, block, entries);
  entries_ += entries;
  return changed;
}

Task<Result<>> check_directory(Volume& volume, BlockNo directory) {
  CO_TRY(BlockBytes block, co_await volume.read(directory));
  CheckEntries check(volume, directory);
  InodeWalk walk(volume, directory, block, check);
  CO_TRY_VOID(co_await walk.run());
  auto& dinode = view<Dinode>(block);
  bool changed = walk.dinode_changed();
  if (!walk.directory_fault() && dinode.entries != check.entries() &&
      volume.found(Kind::directory, directory,
                   fmt::format("directory {}: counts {} entries, expected {}", directory.value, dinode.entries.value(),
                               check.entries()),
                   fmt::format("set it to {}", check.entries()))) {
    dinode.entries = check.entries();
    changed = true;
  }
  if (changed) volume.write(directory, block);
  co_return Result<>{};
}

}  // namespace

Task<Result<>> check_directories(Volume& volume) {
  for (InodeRecord& record : volume.inodes.inodes())
    record.names = record.type == DT_DIR ? 1 : 0;
  for (BlockNo top : {volume.root(), volume.master()}) {
    InodeRecord* record = volume.inodes.find(top);
    DirectoryRecord* directory = volume.inodes.find_directory(top);
    if (record == nullptr || directory == nullptr) continue;
    record->names = 2;
    directory->parent = top.value;
  }
  // Deleted ones count only if they turn out to have a name.
  for (const bool deleted : {false, true}) {
    const std::size_t count = volume.inodes.directories().size();
    for (std::size_t i = 0; i < count; ++i) {
      volume.progress("directories", i, count);
      const DirectoryRecord& directory = volume.inodes.directories()[i];
      const InodeRecord* record = volume.inodes.find(BlockNo(directory.address));
      if (record == nullptr || record->is(InodeRecord::kUnlinked) != deleted) continue;
      if (deleted && directory.parent == 0) continue;
      CO_TRY_VOID(co_await check_directory(volume, record->number()));
    }
  }
  co_return Result<>{};
}

}  // namespace corral::fsck
