#include "fsck/duplicate_pass.h"

#include <algorithm>

#include "fsck/inode_walk.h"
#include "fsck/walk_policies.h"

namespace corral::fsck {

using namespace ondisk;
using Verdict = Ruling::Verdict;

namespace {

struct Claim {
  BlockNo inode;
  Use use;
};
using Claims = std::map<BlockNo, std::vector<Claim>>;

/// Notes who claims the duplicate blocks.
class CollectClaims final : public WalkPolicy {
 public:
  CollectClaims(Volume& volume, Claims& claims) : volume_(volume), claims_(claims) {}
  void set_inode(BlockNo inode) { inode_ = inode; }

  Ruling rule(const Pointer& pointer) override {
    if (!volume_.map.contains(pointer.block)) return {Verdict::drop};
    if (!volume_.duplicates.contains(pointer.block)) return {Verdict::keep};
    const Use use = use_of(pointer.kind);
    auto& all = claims_[pointer.block];
    const bool known = use == Use::metadata && std::ranges::count(all, Use::metadata, &Claim::use) > 0;
    all.push_back({inode_, use});
    // What hangs below metadata is the first claimant's.
    return {known ? Verdict::stop : Verdict::keep};
  }
  void refuse(const Pointer& pointer, const Ruling&) override {
    auto claims = claims_.find(pointer.block);
    if (claims != claims_.end() && !claims->second.empty()) claims->second.pop_back();
  }

 private:
  Volume& volume_;
  Claims& claims_;
  BlockNo inode_{};
};

/// Gives an inode copies of what is not its own.
class Separate final : public WalkPolicy {
 public:
  Separate(Volume& volume, const std::map<BlockNo, Claim>& owners, std::set<BlockNo>& taken, BlockNo inode)
      : volume_(volume), owners_(owners), taken_(taken), inode_(inode) {}

  Ruling rule(const Pointer& pointer) override {
    if (!volume_.map.contains(pointer.block)) return {Verdict::drop};
    auto owner = owners_.find(pointer.block);
    if (owner == owners_.end() && !pointer.below_copy) return {Verdict::keep};
    if (!pointer.below_copy) {
      const bool own = owner->second.inode == inode_ && owner->second.use == use_of(pointer.kind);
      if (own && taken_.insert(pointer.block).second) return {Verdict::keep};
      // A tree that leads into itself has no copy.
      if (own && pointer.kind != PointerKind::data) return {Verdict::drop};
      if (pointer.kind == PointerKind::leaf) return {Verdict::keep};
    }
    const auto copy = volume_.map.allocate(use_of(pointer.kind));
    if (!copy) return {Verdict::drop};
    return {Verdict::copy, *copy};
  }
  void refuse(const Pointer&, const Ruling& ruling) override {
    if (ruling.verdict == Verdict::copy) volume_.map.set_use(ruling.place, Use::none);
  }
  bool repairs() const override { return true; }

 private:
  Volume& volume_;
  const std::map<BlockNo, Claim>& owners_;
  std::set<BlockNo>& taken_;
  BlockNo inode_;
};

class DuplicatePass {
 public:
  explicit DuplicatePass(Volume& volume) : volume_(volume) {}
  Task<Result<>> run();

 private:
  Task<Result<>> collect();
  void choose_owners();
  Task<Result<>> separate(BlockNo inode);

  Volume& volume_;
  Claims claims_;
  std::map<BlockNo, Claim> owners_;
  std::map<BlockNo, std::vector<BlockNo>> foreign_;  ///< by inode
  std::set<BlockNo> taken_;
  bool declined_ = false;
};

Task<Result<>> DuplicatePass::collect() {
  CollectClaims collect(volume_, claims_);
  const std::size_t count = volume_.inodes.inodes().size();
  for (std::size_t i = 0; i < count; ++i) {
    const InodeRecord& record = volume_.inodes.inodes()[i];
    if (record.is(InodeRecord::kGone)) continue;
    volume_.progress("duplicate blocks", i, 2 * count);
    const BlockNo inode = record.number();
    CO_TRY(BlockBytes block, co_await volume_.read(inode));
    collect.set_inode(inode);
    InodeWalk walk(volume_, inode, block, collect);
    CO_TRY_VOID(co_await walk.run());
  }
  co_return Result<>{};
}

/// An inode's own block comes before metadata, which shows what it is, and that before data; then the first comes
/// first.
void DuplicatePass::choose_owners() {
  for (BlockNo block : volume_.duplicates) {
    const auto& claims = claims_[block];
    if (volume_.inodes.find(block) != nullptr) {
      owners_[block] = {block, Use::dinode};
    } else if (claims.empty()) {
      volume_.map.set_use(block, Use::none);
      continue;
    } else {
      auto metadata = std::ranges::find(claims, Use::metadata, &Claim::use);
      owners_[block] = metadata != claims.end() ? *metadata : claims.front();
      volume_.map.set_use(block, owners_[block].use);
    }
    bool first = true;
    for (const Claim& claim : claims) {
      const bool own = claim.inode == owners_[block].inode && claim.use == owners_[block].use && first;
      if (own) first = false;
      if (!own) foreign_[claim.inode].push_back(block);
    }
  }
}

Task<Result<>> DuplicatePass::separate(BlockNo inode) {
  CO_TRY(BlockBytes block, co_await volume_.read(inode));
  auto foreign = foreign_.find(inode);
  if (foreign != foreign_.end()) {
    const BlockNo first = foreign->second.front();
    const BlockNo owner = owners_.at(first).inode;
    const bool accepted = volume_.found(
        Kind::duplicate_block, first,
        fmt::format("inode {}: {} of its blocks {} used twice (block {}, {} {})", inode.value, foreign->second.size(),
                    foreign->second.size() == 1 ? "is" : "are", first.value, owner == inode ? "by" : "also by",
                    owner == inode ? "itself" : fmt::format("inode {}", owner.value)),
        "give it copies of its own");
    declined_ |= !accepted;
    if (!accepted) co_return Result<>{};
  }
  Separate policy(volume_, owners_, taken_, inode);
  InodeWalk walk(volume_, inode, block, policy);
  CO_TRY_VOID(co_await walk.run());
  auto& dinode = view<Dinode>(block);
  bool changed = walk.dinode_changed();
  if (foreign != foreign_.end() && !walk.directory_fault() && dinode.blocks != walk.blocks()) {
    dinode.blocks = walk.blocks();
    changed = true;
  }
  if (changed) volume_.write(inode, block);
  co_return Result<>{};
}

Task<Result<>> DuplicatePass::run() {
  CO_TRY_VOID(co_await collect());
  choose_owners();
  std::set<BlockNo> concerned;
  for (const auto& [block, claims] : claims_) {
    for (const Claim& claim : claims)
      concerned.insert(claim.inode);
  }
  std::size_t done = 0;
  for (BlockNo inode : concerned) {
    volume_.progress("duplicate blocks", concerned.size() + done++, 2 * concerned.size());
    CO_TRY_VOID(co_await separate(inode));
  }
  if (!declined_) volume_.duplicates.clear();
  co_return Result<>{};
}

}  // namespace

Task<Result<>> separate_duplicates(Volume& volume) {
  if (volume.duplicates.empty()) co_return Result<>{};
  DuplicatePass pass(volume);
  co_return co_await pass.run();
}

}  // namespace corral::fsck
