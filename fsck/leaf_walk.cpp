// The part of InodeWalk that visits a directory's dirents and leaves.
#include <sys/stat.h>

#include "fsck/inode_walk.h"
#include "ondisk/checksum.h"
#include "ondisk/dirent_walker.h"
#include "ondisk/validate.h"

namespace corral::fsck {

using namespace ondisk;
using Verdict = Ruling::Verdict;

std::span<const be64> InodeWalk::slots() const {
  if (dinode().height > 0) return pointers(std::span<const std::byte>(table_), 0);
  return pointers(std::span<const std::byte>(dinode_), sizeof(Dinode));
}

Task<Result<>> InodeWalk::walk_leaves() {
  const std::size_t count = std::size_t{1} << dinode().depth;
  if (slots().size() < count) {
    fault(fmt::format("its hash table of {} slots is not complete", count));
    co_return Result<>{};
  }
  const std::vector<be64> table(slots().begin(), slots().begin() + static_cast<std::ptrdiff_t>(count));
  for (std::uint32_t slot = 0; slot < count;) {
    const BlockNo leaf(table[slot]);
    std::uint32_t run = 1;
    while (slot + run < count && BlockNo(table[slot + run]) == leaf)
      ++run;
    if (!leaf) {
      fault(fmt::format("slot {} of its hash table is empty", slot));
    } else {
      CO_TRY_VOID(co_await walk_chain(leaf, slot, run));
    }
    slot += run;
  }
  co_return Result<>{};
}

Task<Result<>> InodeWalk::walk_chain(BlockNo first, std::uint32_t slot, std::uint32_t run) {
  BlockNo next = first;
  for (std::uint64_t length = 0; next; ++length) {
    const Pointer pointer{next, PointerKind::leaf, false};
    const LeafPlace place{next, slot, run, length == 0};
    const Ruling ruling = policy_.rule(pointer);
    if (ruling.verdict == Verdict::drop || ruling.verdict == Verdict::stop || length > volume_.blocks) {
      fault(fmt::format("slot {} of its hash table leads to block {}, which is no leaf of it", slot, next.value));
      co_return Result<>{};
    }
    CO_TRY(BlockBytes bytes, co_await content(pointer, ruling));
    if (!check_leaf_place(bytes, place)) {
      policy_.refuse(pointer, ruling);
      co_return Result<>{};
    }
    ++blocks_;
    if (ruling.fresh) directory_blocks_.push_back(next);
    if (see_dirents(bytes, next, &place) && policy_.see_dirent_block(next, bytes, place.first_of_chain))
      volume_.write(next, bytes);
    next = BlockNo(view<Leaf>(bytes).next);
  }
  co_return Result<>{};
}

/// False: the block is no leaf of this directory at all. Lesser faults only make the directory a damaged one.
bool InodeWalk::check_leaf_place(std::span<const std::byte> bytes, const LeafPlace& place) {
  const std::uint32_t depth = dinode().depth;
  if (!has_meta_type(bytes, MetaType::leaf)) {
    fault(fmt::format("slot {} of its hash table leads to block {}, which is no leaf", place.first_slot,
                      place.block.value));
    return false;
  }
  const auto& leaf = view<Leaf>(bytes);
  if (leaf.inode != 0 && leaf.inode != inode_.value) {
    fault(fmt::format("slot {} of its hash table leads to leaf {}, which belongs to directory {}", place.first_slot,
                      place.block.value, leaf.inode.value()));
    return false;
  }
  if (auto sound = check_leaf(bytes, place.block, depth); !sound) {
    fault(sound.error().describe());
    return true;
  }
  const std::uint32_t span = 1u << (depth - leaf.depth);
  if (place.first_of_chain && (span != place.slots || place.first_slot % span != 0))
    fault(fmt::format("leaf {} of depth {} stands in {} slots from {} on, expected {}", place.block.value,
                      leaf.depth.value(), place.slots, place.first_slot, span));
  if (place.first_of_chain || directory_fault_) return true;
  if (leaf.depth != depth && span != place.slots)
    fault(
        fmt::format("leaf {} of depth {} is chained in {} slots", place.block.value, leaf.depth.value(), place.slots));
  return true;
}

/// False where the dirents cannot all be told apart.
bool InodeWalk::see_dirents(std::span<const std::byte> block, BlockNo address, const LeafPlace* place) {
  DirentWalker walker(block, address);
  const std::uint32_t depth = place != nullptr ? dinode().depth.value() : 0;
  for (;;) {
    auto dirent = walker.next();
    if (!dirent) {
      fault(dirent.error().describe());
      return false;
    }
    if (*dirent == nullptr) return true;
    if (is_unused(**dirent)) continue;
    policy_.see_entry(**dirent);
    if (place == nullptr) continue;
    const std::uint32_t slot = name_hash(name_of(**dirent)) >> (32 - depth);
    if (slot < place->first_slot || slot >= place->first_slot + place->slots)
      fault(fmt::format("leaf {} holds a name that belongs into slot {} of the hash table", address.value, slot));
  }
}

}  // namespace corral::fsck
