#include "fs/dirent_block.h"

#include <cstring>

#include "base/check.h"
#include "ondisk/validate.h"

namespace corral {

using ondisk::Dirent;
using ondisk::dirent_bytes;
using ondisk::DirentWalker;
using ondisk::Leaf;
using ondisk::MetaType;
using ondisk::view;

namespace {

/// In messages of checks that cannot fail for a block scanned before.
constexpr BlockNo kScanned{};

bool is_leaf(std::span<const std::byte> block) {
  return view<ondisk::MetaHeader>(block).meta_type() == MetaType::leaf;
}

bool has_name(const Dirent& dirent, const HashedName& name) {
  return dirent.hash == name.hash && !ondisk::is_unused(dirent) && ondisk::name_of(dirent) == name.name;
}

std::uint32_t needed_bytes(const Dirent& dirent) {
  return ondisk::is_unused(dirent) ? 0 : dirent_bytes(dirent.name_length);
}

void count_in_leaf(std::span<std::byte> block, int change) {
  if (!is_leaf(block)) return;
  auto& leaf = view<Leaf>(block);
  leaf.entries = static_cast<std::uint16_t>(leaf.entries + change);
}

void set_entry(Dirent& dirent, const DirectoryEntry& entry) {
  dirent.inum.addr = entry.address.value;
  dirent.inum.formal_ino = entry.formal_number;
  dirent.type = entry.type;
  dirent.read_ahead = entry.read_ahead;
}

/// Lays dirents one behind the other from the beginning of a block on. A source may lie in the same block, at the place
/// where it goes or behind it: dirents only ever move forward.
class DirentPacker {
 public:
  explicit DirentPacker(std::span<std::byte> block) : block_(block), place_(ondisk::first_dirent_bytes(block)) {}

  void append(const Dirent& source) {
    const std::uint32_t bytes = dirent_bytes(source.name_length);
    CHECK_INVARIANT(place_ + bytes <= block_.size());
    std::memmove(block_.data() + place_, &source, bytes);
    view<Dirent>(block_, place_).record_length = static_cast<std::uint16_t>(bytes);
    last_ = place_;
    place_ += bytes;
    ++entries_;
  }
  /// Gives the rest of the block to the last dirent, or to an unused one if there is none.
  void finish() {
    if (last_ == 0) {
      last_ = place_;
      view<Dirent>(block_, last_) = Dirent{};
    }
    view<Dirent>(block_, last_).record_length = static_cast<std::uint16_t>(block_.size() - last_);
    if (is_leaf(block_)) view<Leaf>(block_).entries = entries_;
  }

 private:
  std::span<std::byte> block_;
  std::size_t place_;
  std::size_t last_ = 0;
  std::uint16_t entries_ = 0;
};

void close_gaps(std::span<std::byte> block) {
  DirentPacker packer(block);
  auto packed = for_each_dirent(block, kScanned, [&](const Dirent& dirent) { packer.append(dirent); });
  CHECK_INVARIANT(packed.has_value());
  packer.finish();
}

/// The first dirent behind whose name (in whose place, if unused) so many bytes are free; 0 if there is none.
std::size_t find_gap(std::span<const std::byte> block, std::uint32_t bytes) {
  DirentWalker walker(block, kScanned);
  for (;;) {
    auto dirent = walker.next();
    CHECK_INVARIANT(dirent.has_value());
    if (*dirent == nullptr) return 0;
    if ((*dirent)->record_length - needed_bytes(**dirent) >= bytes) return walker.offset_bytes();
  }
}

}  // namespace

DirectoryEntry entry_of(const Dirent& dirent) {
  return {BlockNo(dirent.inum.addr), dirent.inum.formal_ino, static_cast<std::uint8_t>(dirent.type), dirent.read_ahead};
}

std::uint32_t dirent_capacity_bytes(std::span<const std::byte> block) {
  return static_cast<std::uint32_t>(block.size() - ondisk::first_dirent_bytes(block));
}

Result<DirentScan> scan_dirents(std::span<const std::byte> block, BlockNo address, const HashedName& name) {
  DirentScan scan;
  DirentWalker walker(block, address);
  for (;;) {
    TRY(const Dirent* dirent, walker.next());
    if (dirent == nullptr) break;
    if (ondisk::is_unused(*dirent)) continue;
    ++scan.entries;
    scan.used_bytes += dirent_bytes(dirent->name_length);
    if (has_name(*dirent, name)) {
      scan.found = static_cast<std::uint32_t>(walker.offset_bytes());
      scan.before = static_cast<std::uint32_t>(walker.previous_offset_bytes());
    }
  }
  scan.has_room = scan.used_bytes + dirent_bytes(name.name.size()) <= dirent_capacity_bytes(block);
  return scan;
}

Result<const Dirent*> find_dirent(std::span<const std::byte> block, BlockNo address, const HashedName& name) {
  DirentWalker walker(block, address);
  for (;;) {
    TRY(const Dirent* dirent, walker.next());
    if (dirent == nullptr || has_name(*dirent, name)) return dirent;
  }
}

void insert_dirent(std::span<std::byte> block, const HashedName& name, const DirectoryEntry& entry) {
  CHECK_INVARIANT(entry.address.value != 0 && entry.formal_number != 0);
  const std::uint32_t bytes = dirent_bytes(name.name.size());
  std::size_t place = find_gap(block, bytes);
  if (place == 0) {
    close_gaps(block);
    place = find_gap(block, bytes);
    CHECK_INVARIANT(place != 0);
  }
  auto& holder = view<Dirent>(block, place);
  const std::uint32_t kept = needed_bytes(holder);
  const std::uint32_t record = holder.record_length - kept;
  if (kept > 0) holder.record_length = static_cast<std::uint16_t>(kept);

  auto& dirent = view<Dirent>(block, place + kept);
  dirent = Dirent{};
  dirent.hash = name.hash;
  dirent.record_length = static_cast<std::uint16_t>(record);
  dirent.name_length = static_cast<std::uint16_t>(name.name.size());
  set_entry(dirent, entry);
  std::memcpy(dirent.name(), name.name.data(), name.name.size());
  count_in_leaf(block, 1);
}

void remove_dirent(std::span<std::byte> block, const HashedName& name) {
  auto scan = scan_dirents(block, kScanned, name);
  CHECK_INVARIANT(scan && scan->found != 0);
  ondisk::remove_dirent(block, scan->before, scan->found);
  count_in_leaf(block, -1);
}

void replace_dirent(std::span<std::byte> block, const HashedName& name, const DirectoryEntry& entry) {
  CHECK_INVARIANT(entry.address.value != 0 && entry.formal_number != 0);
  auto scan = scan_dirents(block, kScanned, name);
  CHECK_INVARIANT(scan && scan->found != 0);
  set_entry(view<Dirent>(block, scan->found), entry);
}

void initialize_stuffed_dirents(std::span<std::byte> dinode) {
  CHECK_INVARIANT(!is_leaf(dinode));
  DirentPacker(dinode).finish();
}

void initialize_leaf(std::span<std::byte> block, BlockNo directory, std::uint32_t depth, std::uint32_t distance) {
  auto& leaf = view<Leaf>(block);
  leaf = Leaf{};
  leaf.header.set(MetaType::leaf);
  leaf.depth = static_cast<std::uint16_t>(depth);
  leaf.dirent_format = ondisk::kFormatDirent;
  leaf.inode = directory.value;
  leaf.distance = distance;
  DirentPacker(block).finish();
}

void copy_dirents_to_leaf(std::span<std::byte> leaf, std::span<const std::byte> dinode) {
  CHECK_INVARIANT(is_leaf(leaf) && !is_leaf(dinode));
  DirentPacker packer(leaf);
  auto copied = for_each_dirent(dinode, kScanned, [&](const Dirent& dirent) { packer.append(dirent); });
  CHECK_INVARIANT(copied.has_value());
  packer.finish();
}

void move_lower_dirents(std::span<std::byte> upper, std::span<std::byte> lower, std::uint32_t divider) {
  CHECK_INVARIANT(is_leaf(upper) && is_leaf(lower) && view<Leaf>(lower).entries == 0);
  DirentPacker kept(upper);
  DirentPacker moved(lower);
  auto split = for_each_dirent(upper, kScanned,
                               [&](const Dirent& dirent) { (dirent.hash < divider ? moved : kept).append(dirent); });
  CHECK_INVARIANT(split.has_value());
  kept.finish();
  moved.finish();
}

Result<> check_leaf_block(std::span<const std::byte> block, BlockNo address, const ondisk::Geometry& geometry) {
  (void)geometry;
  TRY_VOID(ondisk::check_leaf(block, address, ondisk::kDirMaxDepth));
  std::uint32_t entries = 0;
  DirentWalker walker(block, address);
  for (;;) {
    TRY(const Dirent* dirent, walker.next());
    if (dirent == nullptr) break;
    if (ondisk::is_unused(*dirent)) continue;
    ++entries;
    if (const std::uint32_t hash = ondisk::name_hash(ondisk::name_of(*dirent)); dirent->hash != hash)
      return fail_corrupt("directory leaf {}: dirent at byte {} has hash {:#010x}, but that of its name is {:#010x}",
                          address.value, walker.offset_bytes(), dirent->hash.value(), hash);
  }
  if (const std::uint32_t counted = view<Leaf>(block).entries; counted != entries)
    return fail_corrupt("directory leaf {}: says that it has {} entries, but there are {}", address.value, counted,
                        entries);
  return {};
}

}  // namespace corral
