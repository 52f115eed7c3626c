#include "tools/corral/block_owners.h"

#include "base/log.h"
#include "fsck/group_pass.h"
#include "fsck/journal_pass.h"
#include "fsck/superblock_pass.h"
#include "fsck/walk_policies.h"
#include "ondisk/validate.h"

namespace corral {

using namespace ondisk;

namespace {

class NoteOwner final : public fsck::FollowBlocks {
 public:
  NoteOwner(fsck::Volume& volume, BlockNo inode, const std::set<BlockNo>& wanted, std::map<BlockNo, BlockNo>& owners)
      : FollowBlocks(volume), inode_(inode), wanted_(wanted), owners_(owners) {}
  fsck::Ruling rule(const fsck::Pointer& pointer) override {
    if (wanted_.contains(pointer.block)) owners_[pointer.block] = inode_;
    return FollowBlocks::rule(pointer);
  }

 private:
  BlockNo inode_;
  const std::set<BlockNo>& wanted_;
  std::map<BlockNo, BlockNo>& owners_;
};

Task<Result<>> walk_inodes(fsck::Volume& volume, const std::set<BlockNo>& wanted, std::map<BlockNo, BlockNo>& owners) {
  CO_TRY_VOID(co_await load_groups(volume));
  for (const fsck::Group& group : volume.map.groups()) {
    for (std::uint64_t i = 0; i < group.data && owners.size() < wanted.size(); ++i) {
      const BlockNo inode = group.data0 + i;
      const BlockState state = volume.map.on_disk(inode);
      if (state != BlockState::dinode && state != BlockState::unlinked) continue;
      CO_TRY(fsck::BlockBytes block, co_await volume.read(inode));
      if (!check_dinode(block, inode, volume.geometry)) continue;
      if (wanted.contains(inode)) owners[inode] = inode;
      NoteOwner note(volume, inode, wanted, owners);
      fsck::InodeWalk walk(volume, inode, block, note);
      CO_TRY_VOID(co_await walk.run());
    }
  }
  co_return Result<>{};
}

Task<Result<>> look(Executor& executor, fsck::WorkingCopy& disk, const std::set<BlockNo>& wanted, bool replayed,
                    std::map<BlockNo, BlockNo>& owners) {
  fsck::Findings findings([](const fsck::Finding&) { return fsck::Outcome::told; });
  NullLogSink nobody;
  CO_TRY(const Superblock superblock, co_await check_superblock(disk, findings));
  if (replayed) CO_TRY_VOID(co_await replay_journals(executor, disk, nullptr, findings, Logger(nobody)));
  fsck::Volume volume(disk, findings, [](auto, auto, auto) {}, superblock);
  co_return co_await walk_inodes(volume, wanted, owners);
}

}  // namespace

Task<Result<std::map<BlockNo, BlockNo>>> find_owners(Executor& executor, Device& device, std::set<BlockNo> wanted,
                                                     bool replayed) {
  std::map<BlockNo, BlockNo> owners;
  fsck::WorkingCopy disk(executor, device);
  const Result<> looked = co_await look(executor, disk, wanted, replayed, owners);
  co_await disk.close();
  if (!looked) co_return std::unexpected(looked.error());
  co_return owners;
}

}  // namespace corral
