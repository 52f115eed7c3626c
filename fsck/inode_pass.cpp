#include "fsck/inode_pass.h"

#include <algorithm>
#include <bit>

#include <dirent.h>
#include <sys/stat.h>

#include "fsck/dinode_mend.h"
#include "fsck/height_probe.h"
#include "fsck/inode_walk.h"
#include "fsck/walk_policies.h"
#include "ondisk/checksum.h"
#include "ondisk/dirent_walker.h"
#include "ondisk/validate.h"

namespace corral::fsck {

using namespace ondisk;
using Verdict = Ruling::Verdict;

namespace {

/// A block that a dirent takes for an inode, and the bitmap does not.
struct Suspect {
  BlockNo block;
  std::uint64_t formal_ino;
};

/// Claims what an inode refers to.
class ClaimBlocks final : public WalkPolicy {
 public:
  ClaimBlocks(Volume& volume, std::vector<Suspect>& suspects) : volume_(volume), suspects_(suspects) {}

  Ruling rule(const Pointer& pointer) override;
  void refuse(const Pointer& pointer, const Ruling& ruling) override {
    if (ruling.fresh) volume_.map.set_use(pointer.block, Use::none);
  }
  void see_entry(const Dirent& dirent) override;
  bool repairs() const override { return true; }

  bool has_dot() const { return has_dot_; }
  std::uint64_t dot_dot() const { return dot_dot_; }

 private:
  Volume& volume_;
  std::vector<Suspect>& suspects_;
  bool has_dot_ = false;
  std::uint64_t dot_dot_ = 0;
};

Ruling ClaimBlocks::rule(const Pointer& pointer) {
  if (!volume_.map.contains(pointer.block)) return {Verdict::drop};
  const Use before = volume_.map.use(pointer.block);
  const Use wanted = use_of(pointer.kind);
  if (before == Use::none) {
    volume_.map.set_use(pointer.block, wanted);
    return {Verdict::keep, {}, true};
  }
  // Data has no marks of its own, so a data pointer that leads to something else shows only here.
  if (wanted == Use::metadata && before == Use::dinode) return {Verdict::drop};
  volume_.duplicates.insert(pointer.block);
  if (wanted == Use::data) return {Verdict::keep};
  if (before == Use::metadata) return {Verdict::stop};
  volume_.map.set_use(pointer.block, Use::metadata);
  return {Verdict::keep};
}

void ClaimBlocks::see_entry(const Dirent& dirent) {
  const std::string_view name = name_of(dirent);
  if (name == ".") {
    has_dot_ = true;
    return;
  }
  const BlockNo target(dirent.inum.addr);
  if (name == "..") dot_dot_ = target.value;
  if (!volume_.map.contains(target)) return;
  const BlockState state = volume_.map.on_disk(target);
  if (state != BlockState::dinode && state != BlockState::unlinked)
    suspects_.push_back({target, dirent.inum.formal_ino});
}

class InodePass {
 public:
  explicit InodePass(Volume& volume) : volume_(volume) {}

  Task<Result<>> run();
  Task<Result<>> take(BlockNo inode, BlockBytes block, bool unlinked);

 private:
  void reserve();
  Task<Result<>> scan_group(const Group& group);
  Task<Result<>> look_at_state(BlockNo inode, BlockState state);
  Task<Result<>> look_for_lost(BlockNo inode);
  Task<Result<>> look_at_suspects();
  void check_type(BlockNo inode, BlockBytes& block);
  bool found_height(BlockNo inode, const Dinode& dinode, std::uint32_t right);
  Task<Result<>> check_height(BlockNo inode, BlockBytes& block);
  void check_blocks(BlockNo inode, BlockBytes& block, const InodeWalk& walk);
  void record(BlockNo inode, const Dinode& dinode, bool unlinked, const InodeWalk& walk, const ClaimBlocks& claims);

  Volume& volume_;
  std::vector<Suspect> suspects_;
};

void InodePass::reserve() {
  std::size_t inodes = 0;
  for (std::uint64_t i = 0; i < volume_.map.size(); i += kBlocksPerBitmapByte) {
    const unsigned byte = volume_.map.on_disk_byte(i);
    inodes += static_cast<unsigned>(std::popcount(byte & byte >> 1 & 0x55u));
  }
  volume_.inodes.reserve(inodes + inodes / 64 + 16);
}

Task<Result<>> InodePass::look_at_state(BlockNo inode, BlockState state) {
  CO_TRY(BlockBytes block, co_await volume_.read(inode));
  if (!check_dinode(block, inode, volume_.geometry) && !mend_dinode(volume_, inode, block)) co_return Result<>{};
  co_return co_await take(inode, std::move(block), state == BlockState::unlinked);
}

/// Without a bitmap every block may be an inode; those that were deleted have no links any more.
Task<Result<>> InodePass::look_for_lost(BlockNo inode) {
  if (volume_.map.use(inode) != Use::none) co_return Result<>{};
  CO_TRY(BlockBytes block, co_await volume_.read(inode));
  if (!check_dinode(block, inode, volume_.geometry) || view<Dinode>(block).nlink == 0) co_return Result<>{};
  co_return co_await take(inode, std::move(block), false);
}

Task<Result<>> InodePass::scan_group(const Group& group) {
  for (std::uint64_t i = 0; i < group.data; i += kBlocksPerBitmapByte) {
    const unsigned byte = volume_.map.on_disk_byte(group.first_index + i);
    if ((byte & 0xAAu) == 0 && !group.lost) continue;
    for (std::uint64_t within = 0; within < kBlocksPerBitmapByte; ++within) {
      const auto state = static_cast<BlockState>(byte >> (within * 2) & 3u);
      const BlockNo block = group.data0 + i + within;
      if (state == BlockState::dinode || state == BlockState::unlinked) {
        CO_TRY_VOID(co_await look_at_state(block, state));
      } else if (group.lost) {
        CO_TRY_VOID(co_await look_for_lost(block));
      }
    }
  }
  co_return Result<>{};
}

Task<Result<>> InodePass::look_at_suspects() {
  while (!suspects_.empty()) {
    std::vector<Suspect> now;
    std::swap(now, suspects_);
    std::ranges::sort(now, {}, &Suspect::block);
    for (const Suspect& suspect : now) {
      const Use use = volume_.map.use(suspect.block);
      if (use == Use::metadata || use == Use::dinode) continue;
      CO_TRY(BlockBytes block, co_await volume_.read(suspect.block));
      if (!check_dinode(block, suspect.block, volume_.geometry)) continue;
      if (view<Dinode>(block).num.formal_ino != suspect.formal_ino) continue;
      CO_TRY_VOID(co_await take(suspect.block, std::move(block), false));
    }
  }
  co_return Result<>{};
}

/// A directory is known by its flag for hashed ones, or by beginning with a name that leads to itself.
void InodePass::check_type(BlockNo inode, BlockBytes& block) {
  auto& dinode = view<Dinode>(block);
  if (S_ISDIR(dinode.mode)) return;
  const auto& dirent = view<Dirent>(block, sizeof(Dinode));
  const bool dot = dinode.height == 0 && dirent.inum.addr == inode.value && dirent.name_length == 1 &&
                   name_of(dirent) == "." && dirent.hash == name_hash(".");
  const bool hashed =
      (dinode.flags & kDinodeHashedDirectory) != 0 && dinode.depth > 0 && dinode.size == sizeof(be64) << dinode.depth;
  if (!dot && !hashed) return;
  BlockBytes directory = block;
  view<Dinode>(directory).mode = (dinode.mode & 07777u) | S_IFDIR;
  // A directory has more to be right than a file.
  if (!check_dinode(directory, inode, volume_.geometry)) return;
  if (!volume_.found(Kind::dinode, inode,
                     fmt::format("inode {}: mode {:#o}, but it holds a directory", inode.value, dinode.mode.value()),
                     fmt::format("set it to {:#o}", view<Dinode>(directory).mode.value())))
    return;
  block = std::move(directory);
  volume_.write(inode, block);
}

bool InodePass::found_height(BlockNo inode, const Dinode& dinode, std::uint32_t right) {
  return volume_.found(
      Kind::dinode, inode,
      fmt::format("inode {}: height {}, but its tree has height {}", inode.value, dinode.height.value(), right),
      fmt::format("set the height to {}", right));
}

Task<Result<>> InodePass::check_height(BlockNo inode, BlockBytes& block) {
  auto& dinode = view<Dinode>(block);
  if (dinode.height < 2) co_return Result<>{};
  CO_TRY(const std::uint32_t likely, co_await likely_height(volume_, block));
  if (likely == dinode.height || !found_height(inode, dinode, likely)) co_return Result<>{};
  dinode.height = static_cast<std::uint16_t>(likely);
  volume_.write(inode, block);
  co_return Result<>{};
}

void InodePass::check_blocks(BlockNo inode, BlockBytes& block, const InodeWalk& walk) {
  auto& dinode = view<Dinode>(block);
  bool changed = walk.dinode_changed();
  if (!walk.stopped() && !walk.directory_fault() && dinode.blocks != walk.blocks() &&
      volume_.found(Kind::dinode, inode,
                    fmt::format("inode {}: says that it has {} blocks, expected {}", inode.value, dinode.blocks.value(),
                                walk.blocks()),
                    fmt::format("set it to {}", walk.blocks()))) {
    dinode.blocks = walk.blocks();
    changed = true;
  }
  if (changed) volume_.write(inode, block);
}

void InodePass::record(BlockNo inode, const Dinode& dinode, bool unlinked, const InodeWalk& walk,
                       const ClaimBlocks& claims) {
  InodeRecord record;
  record.address = inode.value;
  record.formal_ino = dinode.num.formal_ino;
  record.link_count = dinode.nlink;
  record.type = static_cast<std::uint8_t>(IFTODT(dinode.mode.value()));
  if ((dinode.flags & kDinodeSystem) != 0) record.flags |= InodeRecord::kSystem;
  if (unlinked) record.flags |= InodeRecord::kUnlinked;
  if (record.formal_ino < kFormalInoLimit)
    volume_.next_formal_ino = std::max(volume_.next_formal_ino, record.formal_ino + 1);
  if (S_ISDIR(dinode.mode)) {
    std::optional<std::string> fault = walk.directory_fault();
    if (!fault && !claims.has_dot()) fault = "it has no entry \".\"";
    if (!fault && claims.dot_dot() == 0) fault = "it has no entry \"..\"";
    // What was deleted is on its way to be freed.
    if (fault && !unlinked) {
      volume_.damaged_directories[inode] = {*fault, walk.directory_blocks()};
    }
    volume_.inodes.add(DirectoryRecord{.address = inode.value, .parent = 0, .dot_dot = claims.dot_dot()});
  }
  volume_.inodes.add(record);
}

Task<Result<>> InodePass::take(BlockNo inode, BlockBytes block, bool unlinked) {
  if (volume_.map.use(inode) != Use::none) volume_.duplicates.insert(inode);
  volume_.map.set_use(inode, Use::dinode);
  check_type(inode, block);
  CO_TRY_VOID(co_await check_height(inode, block));
  ClaimBlocks claims(volume_, suspects_);
  InodeWalk walk(volume_, inode, block, claims);
  CO_TRY_VOID(co_await walk.run());
  auto& dinode = view<Dinode>(block);
  if (dinode.blocks != walk.blocks() && dinode.height > 0 && S_ISREG(dinode.mode) && !walk.stopped() &&
      walk.bad_pointers() == 0) {
    CO_TRY(const std::optional<std::uint32_t> height, co_await greater_height(volume_, inode, block));
    if (height && found_height(inode, dinode, *height)) {
      ReleaseBlocks release(volume_);
      InodeWalk back(volume_, inode, block, release);
      CO_TRY_VOID(co_await back.run());
      dinode.height = static_cast<std::uint16_t>(*height);
      volume_.write(inode, block);
      volume_.map.set_use(inode, Use::none);
      co_return co_await take(inode, std::move(block), unlinked);
    }
  }
  check_blocks(inode, block, walk);
  record(inode, dinode, unlinked, walk, claims);
  co_return Result<>{};
}

Task<Result<>> InodePass::run() {
  reserve();
  const std::size_t count = volume_.map.groups().size();
  for (std::size_t i = 0; i < count; ++i) {
    volume_.progress("inodes", i, count);
    CO_TRY_VOID(co_await scan_group(volume_.map.groups()[i]));
  }
  CO_TRY_VOID(co_await look_at_suspects());
  volume_.inodes.sort();
  co_return Result<>{};
}

}  // namespace

Task<Result<>> check_inodes(Volume& volume) {
  InodePass pass(volume);
  co_return co_await pass.run();
}

Task<Result<>> take_inode(Volume& volume, BlockNo inode) {
  CO_TRY(BlockBytes block, co_await volume.read(inode));
  volume.map.set_use(inode, Use::none);
  InodePass pass(volume);
  CO_TRY_VOID(co_await pass.take(inode, std::move(block), false));
  volume.inodes.sort();
  co_return Result<>{};
}

Task<Result<>> free_inode(Volume& volume, BlockNo inode) {
  CO_TRY(BlockBytes block, co_await volume.read(inode));
  ReleaseBlocks release(volume);
  InodeWalk walk(volume, inode, block, release);
  CO_TRY_VOID(co_await walk.run());
  volume.map.set_use(inode, Use::none);
  if (InodeRecord* record = volume.inodes.find(inode)) record->flags |= InodeRecord::kGone;
  co_return Result<>{};
}

}  // namespace corral::fsck
