// The part of InodeWalk that visits extended attributes.
#include <algorithm>

#include "fsck/inode_walk.h"
#include "ondisk/ea_walker.h"
#include "ondisk/validate.h"

namespace corral::fsck {

using namespace ondisk;
using Verdict = Ruling::Verdict;

namespace {

bool is_kept(const Ruling& ruling) {
  return ruling.verdict == Verdict::keep || ruling.verdict == Verdict::copy;
}

/// All of a record's pointers, those that its value does not need as well.
std::span<be64> record_pointers(std::span<std::byte> bytes, std::size_t place) {
  const auto& header = view<ExtendedAttributeHeader>(bytes, place);
  const std::size_t at = place + ea_pointer_bytes(header.name_length, 0);
  return pointers(bytes, at).first(header.num_ptrs);
}

/// Lets the record before it reach over the one at `place`; the first one of a block stays as an unused one.
void remove_record(std::span<std::byte> bytes, std::size_t before, std::size_t place) {
  auto& header = view<ExtendedAttributeHeader>(bytes, place);
  if (before == 0) {
    header.type = static_cast<std::uint8_t>(EaType::unused);
    header.num_ptrs = 0;
    return;
  }
  auto& previous = view<ExtendedAttributeHeader>(bytes, before);
  previous.record_length = previous.record_length + header.record_length;
  previous.flags = static_cast<std::uint8_t>(previous.flags | (header.flags & kEaFlagLast));
}

/// Ends the block with the record at `last`.
void end_records(std::span<std::byte> bytes, std::size_t last) {
  auto& header = view<ExtendedAttributeHeader>(bytes, last);
  header.record_length = static_cast<std::uint32_t>(bytes.size() - last);
  header.flags = static_cast<std::uint8_t>(header.flags | kEaFlagLast);
}

}  // namespace

/// The pointers to the blocks of an attribute's value. False: they are not all usable, and those before are given up.
Task<Result<bool>> InodeWalk::walk_ea_record(std::span<std::byte> bytes, std::size_t place, bool below_copy,
                                             bool& changed) {
  struct Taken {
    Pointer pointer;
    Ruling ruling;
  };
  std::vector<Taken> taken;
  bool usable = true;
  for (be64& value : record_pointers(bytes, place)) {
    if (value == 0) continue;
    const Pointer pointer{BlockNo(value), PointerKind::ea_data, below_copy};
    const Ruling ruling = policy_.rule(pointer);
    usable = is_kept(ruling);
    if (!usable) break;
    taken.push_back({pointer, ruling});
    CO_TRY(const BlockBytes block, co_await content(pointer, ruling));
    usable = has_meta_type(block, MetaType::ea_data);
    if (!usable) break;
    if (ruling.verdict != Verdict::copy) continue;
    value = ruling.place.value;
    changed = true;
  }
  if (usable) {
    blocks_ += taken.size();
  } else {
    for (const Taken& one : taken)
      policy_.refuse(one.pointer, one.ruling);
  }
  co_return usable;
}

/// One block of attributes. `keep` becomes false where nothing of it is of use.
Task<Result<>> InodeWalk::walk_ea_block(Pointer pointer, Ruling ruling, bool& keep) {
  CO_TRY(BlockBytes bytes, co_await content(pointer, ruling));
  EaWalker walker(bytes, pointer.block, volume_.superblock.fs_format);
  std::size_t before = 0;
  std::size_t good = 0;
  bool changed = false;
  const bool below_copy = ruling.verdict == Verdict::copy;
  const BlockNo place = below_copy ? ruling.place : pointer.block;
  for (;;) {
    auto record = walker.next();
    if (!record) {
      keep = good > 0;
      const bool accepted =
          policy_.repairs() &&
          volume_.found(Kind::extended_attributes, pointer.block,
                        fmt::format("inode {}: {}", inode_.value, record.error().describe()),
                        keep ? "remove this attribute and those behind it" : "remove the attributes in this block");
      keep |= !accepted;
      if (accepted && keep) end_records(bytes, good);
      changed |= accepted && keep;
      break;
    }
    if (!*record) break;
    const std::size_t at = (*record)->offset_bytes;
    bool usable = true;
    if ((*record)->type != EaType::unused && !(*record)->is_inline()) {
      CO_TRY(usable, co_await walk_ea_record(bytes, at, below_copy, changed));
    }
    if (!usable && policy_.repairs() &&
        volume_.found(Kind::extended_attributes, pointer.block,
                      fmt::format("inode {}: the value of an extended attribute (block {}, byte {}) is lost",
                                  inode_.value, pointer.block.value, at),
                      "remove the attribute")) {
      remove_record(bytes, before, at);
      changed = true;
      if (before == 0) before = good = at;
      continue;
    }
    before = good = at;
  }
  if (keep) ++blocks_;
  if (keep && changed) volume_.write(place, bytes);
  if (!keep) policy_.refuse(pointer, ruling);
  co_return Result<>{};
}

Task<Result<>> InodeWalk::walk_attributes() {
  const bool indirect = (dinode().flags & kDinodeEaIndirect) != 0;
  const Pointer pointer{BlockNo(dinode().eattr), indirect ? PointerKind::ea_indirect : PointerKind::ea_block, false};
  const Ruling ruling = policy_.rule(pointer);
  bool keep = is_kept(ruling);
  std::string problem =
      fmt::format("block {}, where its extended attributes are, is none that could be its own", pointer.block.value);
  if (keep && !indirect) {
    CO_TRY_VOID(co_await walk_ea_block(pointer, ruling, keep));
    problem.clear();
  } else if (keep) {
    CO_TRY(BlockBytes bytes, co_await content(pointer, ruling));
    keep = has_meta_type(bytes, MetaType::indirect);
    if (!keep) policy_.refuse(pointer, ruling);
    auto all = pointers(std::span<std::byte>(bytes), sizeof(MetaHeader));
    std::vector<be64> kept;
    std::size_t bad = 0;
    for (std::size_t i = 0; keep && i < all.size() && all[i] != 0; ++i) {
      const Pointer below{BlockNo(all[i]), PointerKind::ea_block, ruling.verdict == Verdict::copy};
      const Ruling ruling_below = policy_.rule(below);
      bool usable = is_kept(ruling_below);
      if (usable) CO_TRY_VOID(co_await walk_ea_block(below, ruling_below, usable));
      if (!usable) ++bad;
      if (usable)
        kept.emplace_back(ruling_below.verdict == Verdict::copy ? ruling_below.place.value : below.block.value);
    }
    if (keep) ++blocks_;
    const BlockNo place = ruling.verdict == Verdict::copy ? ruling.place : pointer.block;
    // The list ends with the first 0, so what is left moves together.
    const bool moved = !std::ranges::equal(kept, all.first(kept.size()));
    bool rewrite = keep && bad == 0 && moved;
    if (keep && bad > 0)
      rewrite =
          policy_.repairs() &&
          volume_.found(Kind::extended_attributes, pointer.block,
                        fmt::format("inode {}: {} of its blocks of extended attributes are lost", inode_.value, bad),
                        "remove them from the list");
    if (rewrite) {
      std::ranges::fill(all, be64(0));
      std::ranges::copy(kept, all.begin());
      volume_.write(place, bytes);
    }
  }
  if (keep) {
    if (ruling.verdict == Verdict::copy) {
      dinode().eattr = ruling.place.value;
      dinode_changed_ = true;
    }
    co_return Result<>{};
  }
  if (!policy_.repairs()) co_return Result<>{};
  if (!problem.empty() && !volume_.found(Kind::extended_attributes, inode_,
                                         fmt::format("inode {}: {}", inode_.value, problem), "remove the attributes"))
    co_return Result<>{};
  dinode().eattr = 0;
  dinode().flags = dinode().flags & ~kDinodeEaIndirect;
  dinode_changed_ = true;
  co_return Result<>{};
}

}  // namespace corral::fsck
