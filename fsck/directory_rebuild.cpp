#include "fsck/directory_rebuild.h"

#include <algorithm>
#include <unordered_set>

#include "fsck/directory_layout.h"
#include "ondisk/checksum.h"
#include "ondisk/dirent_walker.h"
#include "ondisk/validate.h"

namespace corral::fsck {

using namespace ondisk;

namespace {

class Rebuild {
 public:
  Rebuild(Volume& volume, BlockNo directory, const DamagedDirectory& damage, std::span<const BlockNo> lost_leaves)
      : volume_(volume), directory_(directory), damage_(damage), lost_leaves_(lost_leaves) {}

  /// False where the repair was declined.
  Task<Result<bool>> run();

 private:
  bool is_name(std::span<const std::byte> block, std::size_t offset) const;
  void salvage(std::span<const std::byte> block, std::size_t offset);
  void add(const Dirent& dirent);
  void add_dots();

  Volume& volume_;
  BlockNo directory_;
  const DamagedDirectory& damage_;
  std::span<const BlockNo> lost_leaves_;
  std::vector<NameEntry> entries_;
  std::unordered_set<std::string> names_;
};

/// A used dirent, as sure as its hash can make it.
bool Rebuild::is_name(std::span<const std::byte> block, std::size_t offset) const {
  if (block.size() - offset < dirent_bytes(1)) return false;
  const auto& dirent = view<Dirent>(block, offset);
  const std::size_t record = dirent.record_length;
  const std::size_t length = dirent.name_length;
  if (is_unused(dirent) || length == 0 || length > kNameMaxBytes) return false;
  if (record % 8 != 0 || record < dirent_bytes(length) || record > block.size() - offset) return false;
  return dirent.hash == name_hash(name_of(dirent));
}

void Rebuild::salvage(std::span<const std::byte> block, std::size_t offset) {
  while (offset + sizeof(Dirent) <= block.size()) {
    const auto& dirent = view<Dirent>(block, offset);
    if (is_name(block, offset)) {
      add(dirent);
      offset += dirent.record_length;
      continue;
    }
    // A place holder leads to the next dirent; behind anything else the next one is looked for step by step.
    const std::size_t record = dirent.record_length;
    const bool holder =
        is_unused(dirent) && record >= sizeof(Dirent) && record % 8 == 0 && offset + record <= block.size();
    offset += holder ? record : 8;
  }
}

void Rebuild::add(const Dirent& dirent) {
  const std::string name(name_of(dirent));
  if (name == "." || name == ".." || !is_valid_name(name)) return;
  if (volume_.inodes.find(BlockNo(dirent.inum.addr)) == nullptr || !names_.insert(name).second) return;
  entries_.push_back({name, dirent.inum, static_cast<std::uint8_t>(dirent.type)});
}

void Rebuild::add_dots() {
  constexpr std::uint8_t kDirectory = 4;
  const InodeRecord* self = volume_.inodes.find(directory_);
  const DirectoryRecord* record = volume_.inodes.find_directory(directory_);
  const InodeRecord* parent = volume_.inodes.find(BlockNo(record->dot_dot));
  if (parent == nullptr) parent = volume_.inodes.find(volume_.root());
  if (parent == nullptr || directory_ == volume_.root() || directory_ == volume_.master()) parent = self;
  entries_.push_back({".", {self->formal_ino, self->address}, kDirectory});
  entries_.push_back({"..", {parent->formal_ino, parent->address}, kDirectory});
}

Task<Result<bool>> Rebuild::run() {
  CO_TRY(const BlockBytes block, co_await volume_.read(directory_));
  const auto& dinode = view<Dinode>(block);
  if (dinode.height == 0 && (dinode.flags & kDinodeHashedDirectory) == 0) salvage(block, sizeof(Dinode));
  std::vector<BlockNo> leaves = damage_.blocks;
  leaves.insert(leaves.end(), lost_leaves_.begin(), lost_leaves_.end());
  for (BlockNo leaf : leaves) {
    CO_TRY(const BlockBytes bytes, co_await volume_.read(leaf));
    const auto& header = view<MetaHeader>(bytes);
    if (header.meta_type() == MetaType::leaf || header.magic != kMagic) salvage(bytes, sizeof(Leaf));
  }
  add_dots();
  const bool accepted =
      volume_.found(Kind::directory, directory_, fmt::format("directory {}: {}", directory_.value, damage_.fault),
                    fmt::format("lay it out anew with the {} names found", entries_.size() - 2));
  if (!accepted) co_return false;
  DirectoryRecord* record = volume_.inodes.find_directory(directory_);
  record->dot_dot = entries_.back().inode.addr;
  CO_TRY_VOID(co_await lay_out_directory(volume_, directory_, std::move(entries_), damage_.blocks));
  co_return true;
}

/// Blocks that are used as the disk has it, that nothing refers to, and that say that they are leaves of a damaged
/// directory.
Task<Result<std::map<BlockNo, std::vector<BlockNo>>>> find_lost_leaves(Volume& volume) {
  std::map<BlockNo, std::vector<BlockNo>> lost;
  for (const Group& group : volume.map.groups()) {
    for (std::uint64_t i = 0; i < group.data; ++i) {
      const BlockNo block = group.data0 + i;
      if (volume.map.use(block) != Use::none || volume.map.on_disk(block) != BlockState::used) continue;
      CO_TRY(const BlockBytes bytes, co_await volume.read(block));
      const auto& leaf = view<Leaf>(bytes);
      const bool likely = leaf.header.magic == kMagic || leaf.header.meta_type() == MetaType::leaf;
      if (likely && volume.damaged_directories.contains(BlockNo(leaf.inode)))
        lost[BlockNo(leaf.inode)].push_back(block);
    }
  }
  co_return lost;
}

}  // namespace

Task<Result<>> rebuild_directories(Volume& volume) {
  if (volume.damaged_directories.empty()) co_return Result<>{};
  CO_TRY(const auto lost, co_await find_lost_leaves(volume));
  for (auto damaged = volume.damaged_directories.begin(); damaged != volume.damaged_directories.end();) {
    const auto& [directory, damage] = *damaged;
    auto leaves = lost.find(directory);
    const std::span<const BlockNo> found = leaves == lost.end() ? std::span<const BlockNo>() : leaves->second;
    bool repaired = volume.inodes.find(directory) == nullptr;
    if (!repaired) {
      Rebuild rebuild(volume, directory, damage, found);
      auto done = co_await rebuild.run();
      if (!done && done.error().code() != ENOSPC) co_return std::unexpected(done.error());
      if (!done) volume.findings.failed();
      repaired = done.value_or(false);
    }
    // The others are left as they are.
    damaged = repaired ? volume.damaged_directories.erase(damaged) : std::next(damaged);
  }
  co_return Result<>{};
}

}  // namespace corral::fsck
