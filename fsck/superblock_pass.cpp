#include "fsck/superblock_pass.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <map>
#include <optional>
#include <vector>

#include <sys/stat.h>

#include "ondisk/text_field.h"
#include "ondisk/validate.h"

namespace corral::fsck {

using namespace ondisk;

namespace {

constexpr std::size_t kStepBytes = 512;
constexpr std::uint32_t kLargestBlockBytes = 65536;
constexpr std::uint64_t kPieceBytes = 1 << 20;

/// Whether a directory is its own parent; of a hashed one its dinode does not tell.
enum class Top : std::uint8_t { no, maybe, yes };

/// What a search of the whole device tells about the volume.
struct Search {
  std::map<std::uint32_t, std::uint64_t> dinodes_by_block_size;
  struct Directory {
    InodeIdentity identity{};
    std::uint32_t block_size = 0;
    Top top = Top::no;
  };
  std::vector<Directory> system_directories;
  std::vector<Directory> directories;

  void look_at(std::uint64_t offset, std::span<const std::byte> bytes);
  std::uint32_t block_size() const;
  static std::optional<InodeIdentity> oldest(const std::vector<Directory>& directories, std::uint32_t block_size);
};

/// A directory without a parent: "." and ".." stand first in a stuffed one.
Top top_of(std::span<const std::byte> bytes) {
  const auto& dinode = view<Dinode>(bytes);
  if ((dinode.flags & kDinodeHashedDirectory) != 0) return Top::maybe;
  const std::size_t second = sizeof(Dinode) + view<Dirent>(bytes, sizeof(Dinode)).record_length;
  if (second + dirent_bytes(2) > bytes.size()) return Top::no;
  const auto& dirent = view<Dirent>(bytes, second);
  const bool self =
      dirent.inum.addr == dinode.num.addr && dirent.name_length == 2 && std::string_view(dirent.name(), 2) == "..";
  return self ? Top::yes : Top::no;
}

/// The dinode's own address and its place on the device give the block size.
void Search::look_at(std::uint64_t offset, std::span<const std::byte> bytes) {
  if (!has_meta_type(bytes, MetaType::dinode)) return;
  const auto& dinode = view<Dinode>(bytes);
  const std::uint64_t address = dinode.num.addr;
  if (address == 0 || dinode.num.formal_ino == 0 || offset % address != 0) return;
  const std::uint64_t block_size = offset / address;
  if (!std::has_single_bit(block_size) || block_size < kBasicBlockBytes || block_size > kLargestBlockBytes) return;
  const auto size = static_cast<std::uint32_t>(block_size);
  ++dinodes_by_block_size[size];
  if (!S_ISDIR(dinode.mode) || dinode.nlink == 0) return;
  auto& list = (dinode.flags & kDinodeSystem) != 0 ? system_directories : directories;
  list.push_back({dinode.num, size, top_of(bytes)});
}

std::uint32_t Search::block_size() const {
  std::uint32_t best = 0;
  std::uint64_t most = 0;
  for (const auto& [size, count] : dinodes_by_block_size) {
    if (count <= most) continue;
    most = count;
    best = size;
  }
  return best;
}

/// Both the master and the root directory are their own parents, and are made before all others of their kind.
std::optional<InodeIdentity> Search::oldest(const std::vector<Directory>& directories, std::uint32_t block_size) {
  const Directory* best = nullptr;
  for (const Directory& directory : directories) {
    if (directory.block_size != block_size || directory.top == Top::no) continue;
    const bool better = best == nullptr || directory.top > best->top ||
                        (directory.top == best->top && directory.identity.formal_ino < best->identity.formal_ino);
    if (better) best = &directory;
  }
  if (best == nullptr) return std::nullopt;
  return best->identity;
}

Task<Result<Search>> search_device(WorkingCopy& disk) {
  Search search;
  const std::uint64_t size = disk.geometry().size_bytes / kStepBytes * kStepBytes;
  std::vector<std::byte> piece(kPieceBytes);
  for (std::uint64_t offset = kSuperblockOffsetBytes; offset < size; offset += kPieceBytes) {
    const std::span<std::byte> bytes(piece.data(), std::min(kPieceBytes, size - offset));
    CO_TRY_VOID(co_await disk.fetch(offset, bytes));
    for (std::size_t at = 0; at < bytes.size(); at += kStepBytes)
      search.look_at(offset + at, std::span<const std::byte>(bytes).subspan(at, kStepBytes));
  }
  co_return search;
}

/// Whether any of the superblock's constant fields is as it must be.
bool has_right_field(const Superblock& superblock) {
  const std::uint32_t format = superblock.fs_format;
  return superblock.header.magic == kMagic || superblock.header.meta_type() == MetaType::superblock ||
         superblock.multihost_format == kMultihostFormat ||
         (format >= kFilesystemFormatMin && format <= kFilesystemFormatMax) ||
         std::string_view(superblock.lock_protocol.data(), 5) == "lock_";
}

/// Whether all is zero in front of the superblock.
Task<Result<bool>> is_front_empty(WorkingCopy& disk) {
  std::vector<std::byte> front(kSuperblockOffsetBytes);
  CO_TRY_VOID(co_await disk.fetch(0, front));
  co_return std::ranges::all_of(front, [](std::byte byte) { return byte == std::byte{0}; });
}

/// Is there a directory at the block that the superblock names?
Task<Result<bool>> leads_to_directory(WorkingCopy& disk, const InodeIdentity& inode, std::uint32_t block_size,
                                      bool system) {
  const std::uint64_t offset = inode.addr * block_size;
  std::array<std::byte, kStepBytes> bytes{};
  if (inode.addr >= disk.geometry().size_bytes / block_size) co_return false;
  CO_TRY_VOID(co_await disk.fetch(offset, bytes));
  const auto& dinode = view<Dinode>(bytes);
  co_return has_meta_type(bytes, MetaType::dinode) && S_ISDIR(dinode.mode) && dinode.num.addr == inode.addr &&
      ((dinode.flags & kDinodeSystem) != 0) == system;
}

/// Makes of a damaged superblock what the search allows. What still leads to a directory is kept.
Result<Superblock> mended(const Superblock& old, const Search& search, bool keep_master, bool keep_root,
                          std::string_view device) {
  Superblock superblock = old;
  const std::uint32_t block_size = search.block_size();
  if (block_size == 0) return fail(EINVAL, "{}: neither a superblock nor inodes of a GFS2 volume were found", device);
  superblock.header.set(MetaType::superblock);
  superblock.multihost_format = kMultihostFormat;
  if (superblock.fs_format < kFilesystemFormatMin || superblock.fs_format > kFilesystemFormatMax)
    superblock.fs_format = kFilesystemFormatMax;
  superblock.block_size = block_size;
  superblock.block_size_shift = static_cast<std::uint32_t>(std::countr_zero(block_size));
  auto master = Search::oldest(search.system_directories, block_size);
  auto root = Search::oldest(search.directories, block_size);
  if (master && !keep_master) superblock.master_dir = *master;
  if (root && !keep_root) superblock.root_dir = *root;
  if (!text_of(superblock.lock_table)) superblock.lock_table.fill('\0');
  const bool shared = superblock.lock_table[0] != '\0';
  if (text_of(superblock.lock_protocol).value_or("").empty())
    set_text(superblock.lock_protocol, shared ? "lock_dlm" : "lock_nolock");
  return superblock;
}

}  // namespace

Task<Result<Superblock>> check_superblock(WorkingCopy& disk, Findings& findings) {
  const std::size_t bytes = std::max<std::size_t>(disk.geometry().sector_bytes, kStepBytes);
  if (disk.geometry().size_bytes < kSuperblockOffsetBytes + bytes)
    co_return fail(EINVAL, "{}: {} bytes are too few for a GFS2 volume", disk.name(), disk.geometry().size_bytes);
  std::vector<std::byte> block(bytes);
  CO_TRY_VOID(co_await disk.fetch(kSuperblockOffsetBytes, block));
  auto& superblock = view<Superblock>(block);
  std::string problem;
  if (auto parsed = parse_superblock(block, disk.geometry().size_bytes); !parsed) {
    problem = parsed.error().describe();
  } else {
    CO_TRY(const bool master, co_await leads_to_directory(disk, superblock.master_dir, superblock.block_size, true));
    CO_TRY(const bool root, co_await leads_to_directory(disk, superblock.root_dir, superblock.block_size, false));
    if (master && root) co_return superblock;
    problem = fmt::format("superblock: no {} directory at block {}", master ? "root" : "master",
                          (master ? superblock.root_dir : superblock.master_dir).addr.value());
  }
  // A disk that once was a GFS2 volume and is now something else still holds inodes, but also something in front.
  const std::unexpected<Error> not_only_ours =
      fail(EINVAL, "{}: there is no superblock, and what else is there is not only a GFS2 volume", disk.name());
  const bool lost = !has_right_field(superblock);
  if (lost) {
    CO_TRY(const bool empty, co_await is_front_empty(disk));
    if (!empty) co_return not_only_ours;
  }
  CO_TRY(const Search search, co_await search_device(disk));
  const std::uint32_t block_size = search.block_size();
  bool master_found = false;
  bool root_found = false;
  if (block_size != 0) {
    CO_TRY(master_found, co_await leads_to_directory(disk, superblock.master_dir, block_size, true));
    CO_TRY(root_found, co_await leads_to_directory(disk, superblock.root_dir, block_size, false));
  }
  CO_TRY(const Superblock better, mended(superblock, search, master_found, root_found, disk.name()));
  if (lost && (search.system_directories.empty() || search.directories.empty())) co_return not_only_ours;
  if (std::memcmp(&better, &superblock, sizeof(better)) == 0) co_return superblock;
  const bool accepted = findings.add(
      {Kind::superblock, BlockNo(kSuperblockOffsetBytes / better.block_size), problem,
       fmt::format("write a superblock with block size {}, master directory {}, root directory {}, lock protocol {}",
                   better.block_size.value(), better.master_dir.addr.value(), better.root_dir.addr.value(),
                   better.lock_protocol.data())});
  if (!accepted) co_return fail(ECANCELED, "without a superblock nothing more can be checked");
  superblock = better;
  if (auto parsed = parse_superblock(block, disk.geometry().size_bytes); !parsed)
    co_return std::unexpected(parsed.error().within("the superblock cannot be rebuilt"));
  disk.put(kSuperblockOffsetBytes, block);
  co_return superblock;
}

}  // namespace corral::fsck
