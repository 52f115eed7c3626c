#include "fsck/inode_walk.h"

#include <algorithm>

#include <sys/stat.h>

#include "ondisk/validate.h"

namespace corral::fsck {

using namespace ondisk;
using Verdict = Ruling::Verdict;

namespace {

MetaType type_of(PointerKind kind) {
  switch (kind) {
    case PointerKind::indirect:
    case PointerKind::ea_indirect:
      return MetaType::indirect;
    case PointerKind::table:
      return MetaType::journaled_data;
    case PointerKind::leaf:
      return MetaType::leaf;
    case PointerKind::ea_block:
      return MetaType::ea_block;
    case PointerKind::ea_data:
      return MetaType::ea_data;
    case PointerKind::data:
      break;
  }
  return MetaType::none;
}

constexpr std::size_t kHeaderFields = 3;

}  // namespace

bool InodeWalk::is_directory() const {
  return S_ISDIR(dinode().mode);
}

void InodeWalk::fault(std::string text) {
  if (!directory_fault_) directory_fault_ = std::move(text);
}

Task<Result<>> InodeWalk::run() {
  const std::uint32_t height = dinode().height;
  if (height > 0) {
    const Holder holder{inode_, dinode_, sizeof(Dinode), false};
    CO_TRY(const bool changed, co_await walk_pointers(holder, height));
    dinode_changed_ |= changed;
  }
  if (is_directory()) {
    if ((dinode().flags & kDinodeHashedDirectory) != 0) {
      CO_TRY_VOID(co_await walk_leaves());
    } else {
      const bool sound = see_dirents(dinode_, inode_, nullptr);
      if (sound) dinode_changed_ |= policy_.see_dirent_block(inode_, dinode_, true);
    }
  }
  if (dinode().eattr != 0) CO_TRY_VOID(co_await walk_attributes());
  co_return Result<>{};
}

/// Reads what the pointer leads to; where the policy gives a copy, makes it.
Task<Result<BlockBytes>> InodeWalk::content(const Pointer& pointer, const Ruling& ruling) {
  CO_TRY(BlockBytes bytes, co_await volume_.read(pointer.block));
  if (ruling.verdict == Verdict::copy) volume_.write(ruling.place, bytes);
  co_return bytes;
}

/// An indirect block or a directory's table of which only the header was hit.
bool InodeWalk::mend_header(BlockBytes& bytes, BlockNo block, PointerKind kind) {
  if (kind != PointerKind::indirect && kind != PointerKind::table) return false;
  if (!policy_.repairs() || volume_.map.on_disk(block) != BlockState::used) return false;
  const auto& header = view<MetaHeader>(bytes);
  const auto wanted = static_cast<std::uint32_t>(type_of(kind));
  // One of three fields may be wrong: more is no damaged header but another block.
  const std::size_t right = (header.magic == kMagic ? 1u : 0u) + (header.type == wanted ? 1u : 0u) +
                            (header.format == format_of(type_of(kind)) ? 1u : 0u);
  if (right + 1 < kHeaderFields) return false;
  std::size_t used = 0;
  for (const be64& pointer : pointers(std::span<const std::byte>(bytes), sizeof(MetaHeader))) {
    if (pointer == 0) continue;
    if (!volume_.map.contains(BlockNo(pointer))) return false;
    ++used;
  }
  if (used == 0) return false;
  if (!volume_.found(Kind::block_pointer, block,
                     fmt::format("inode {}: the header of its block {} is damaged (magic {:#010x}, type {})",
                                 inode_.value, block.value, header.magic.value(), header.type.value()),
                     "restore the header"))
    return false;
  view<MetaHeader>(bytes).set(type_of(kind));
  volume_.write(block, bytes);
  return true;
}

/// False: what lies there is not what the pointer needs.
Task<Result<bool>> InodeWalk::follow(Pointer pointer, Ruling ruling, std::uint32_t height) {
  if (pointer.kind == PointerKind::data) {
    if (ruling.verdict == Verdict::copy) CO_TRY_VOID(co_await content(pointer, ruling));
    ++blocks_;
    co_return true;
  }
  CO_TRY(BlockBytes bytes, co_await content(pointer, ruling));
  if (!has_meta_type(bytes, type_of(pointer.kind)) && !mend_header(bytes, pointer.block, pointer.kind)) {
    policy_.refuse(pointer, ruling);
    co_return false;
  }
  ++blocks_;
  if (is_directory() && ruling.fresh) directory_blocks_.push_back(pointer.block);
  if (pointer.kind == PointerKind::table) {
    table_.insert(table_.end(), bytes.begin() + sizeof(MetaHeader), bytes.end());
    co_return true;
  }
  if (ruling.verdict == Verdict::stop) {
    stopped_ = true;
    co_return true;
  }
  const bool copied = ruling.verdict == Verdict::copy;
  const BlockNo place = copied ? ruling.place : pointer.block;
  const Holder holder{place, bytes, sizeof(MetaHeader), copied};
  CO_TRY(const bool changed, co_await walk_pointers(holder, height - 1));
  if (changed) volume_.write(place, bytes);
  co_return true;
}

/// True if the holder's bytes were changed and are to be written.
Task<Result<bool>> InodeWalk::walk_pointers(Holder holder, std::uint32_t height) {
  const bool directory = is_directory();
  const PointerKind last = directory ? PointerKind::table : PointerKind::data;
  const PointerKind kind = height == 1 ? last : PointerKind::indirect;
  auto all = pointers(holder.bytes, holder.header_bytes);
  std::vector<std::size_t> dropped;
  bool changed = false;
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (all[i] == 0) continue;
    const Pointer pointer{BlockNo(all[i]), kind, holder.below_copy};
    const Ruling ruling = policy_.rule(pointer);
    bool good = ruling.verdict != Verdict::drop;
    if (good) {
      CO_TRY(good, co_await follow(pointer, ruling, height));
    }
    if (!good) {
      dropped.push_back(i);
    } else if (ruling.verdict == Verdict::copy) {
      all[i] = ruling.place.value;
      changed = true;
    }
  }
  if (dropped.empty()) co_return changed;
  bad_pointers_ += dropped.size();
  if (directory) {
    // A table with a hole in it is of no use: the directory is laid out anew from its leaves.
    fault(fmt::format("pointer {} of its block {} leads to block {}, which holds no part of its table", dropped[0],
                      holder.block.value, all[dropped[0]].value()));
    co_return changed;
  }
  if (!policy_.repairs()) co_return changed;
  const bool accepted = volume_.found(
      Kind::block_pointer, holder.block,
      fmt::format("inode {}: {} of the pointers in block {} lead{} to no block that could be the inode's (pointer {}: "
                  "block {})",
                  inode_.value, dropped.size(), holder.block.value, dropped.size() == 1 ? "s" : "", dropped[0],
                  all[dropped[0]].value()),
      "clear them; what they held reads as zeros");
  if (!accepted) co_return changed;
  for (std::size_t i : dropped)
    all[i] = 0;
  co_return true;
}

}  // namespace corral::fsck
