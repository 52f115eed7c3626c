/// Policies of InodeWalk that more than one pass needs.
#pragma once

#include "fsck/inode_walk.h"

namespace corral::fsck {

/// Follows everything within the volume's groups and changes nothing.
class FollowBlocks : public WalkPolicy {
 public:
  explicit FollowBlocks(Volume& volume) : volume_(volume) {}
  Ruling rule(const Pointer& pointer) override {
    return volume_.map.contains(pointer.block) ? Ruling{Ruling::Verdict::keep, {}, true}
                                               : Ruling{Ruling::Verdict::drop};
  }

 protected:
  Volume& volume_;
};

/// Gives up all claims of an inode, except on blocks that others claim as well.
class ReleaseBlocks final : public WalkPolicy {
 public:
  explicit ReleaseBlocks(Volume& volume) : volume_(volume) {}
  Ruling rule(const Pointer& pointer) override {
    const bool claimed = volume_.map.contains(pointer.block) &&
                         volume_.map.use(pointer.block) == use_of(pointer.kind) &&
                         !volume_.duplicates.contains(pointer.block);
    if (!claimed) return {Ruling::Verdict::drop};
    volume_.map.set_use(pointer.block, Use::none);
    return {Ruling::Verdict::keep};
  }
  void refuse(const Pointer& pointer, const Ruling&) override {
    volume_.map.set_use(pointer.block, use_of(pointer.kind));
  }

 private:
  Volume& volume_;
};

}  // namespace corral::fsck
