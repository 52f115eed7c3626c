#include "ondisk/validate.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <optional>
#include <utility>

#include <sys/stat.h>

#include "ondisk/checksum.h"
#include "ondisk/text_field.h"

namespace corral::ondisk {

namespace {

constexpr std::uint32_t kMinBlockBytes = 512;
constexpr std::uint32_t kMaxBlockBytes = 65536;
/// A used dirent with the shortest name.
constexpr std::size_t kMinDirentBytes = dirent_bytes(1);

std::string_view type_name(std::uint32_t type) {
  switch (static_cast<MetaType>(type)) {
    case MetaType::none:
      return "none";
    case MetaType::superblock:
      return "superblock";
    case MetaType::resource_group:
      return "resource group";
    case MetaType::resource_group_bitmap:
      return "resource group bitmap";
    case MetaType::dinode:
      return "dinode";
    case MetaType::indirect:
      return "indirect";
    case MetaType::leaf:
      return "directory leaf";
    case MetaType::journaled_data:
      return "journaled data";
    case MetaType::log_header:
      return "log header";
    case MetaType::log_descriptor:
      return "log descriptor";
    case MetaType::ea_block:
      return "extended attributes";
    case MetaType::ea_data:
      return "extended attribute data";
    case MetaType::log_block:
      return "log block";
    case MetaType::quota_change:
      return "quota change";
  }
  return "unknown";
}

Result<> check_inode_pointer(const InodeIdentity& identity, std::string_view name, const Geometry& geometry,
                             std::uint64_t volume_blocks) {
  if (identity.formal_ino == 0) return fail_corrupt("superblock: formal inode number of the {} directory is 0", name);
  if (identity.addr <= geometry.superblock().value || identity.addr >= volume_blocks)
    return fail_corrupt("superblock: {} directory is at block {}, expected one from {} to {}", name,
                        identity.addr.value(), geometry.superblock().value + 1, volume_blocks - 1);
  return {};
}

Result<> check_format(const Superblock& superblock) {
  if (superblock.header.magic != kMagic || superblock.header.meta_type() != MetaType::superblock)
    return fail(EINVAL,
                "not a GFS2 volume: at byte {} magic {:#010x} and type {}, expected magic {:#010x} and type {} "
                "(superblock)",
                kSuperblockOffsetBytes, superblock.header.magic.value(), superblock.header.type.value(), kMagic,
                std::to_underlying(MetaType::superblock));
  if (superblock.fs_format < kFilesystemFormatMin || superblock.fs_format > kFilesystemFormatMax ||
      superblock.multihost_format != kMultihostFormat)
    return fail(EINVAL, "superblock: format {} (multihost {}), only {} to {} (multihost {}) are known",
                superblock.fs_format.value(), superblock.multihost_format.value(), kFilesystemFormatMin,
                kFilesystemFormatMax, kMultihostFormat);
  return {};
}

Result<> check_dinode_directory(const Dinode& dinode, BlockNo address, const Geometry& geometry) {
  const std::uint32_t height = dinode.height;
  if ((dinode.flags & kDinodeHashedDirectory) == 0) {
    if (height == 0) return {};
    return fail_corrupt("dinode {}: height {} of a directory that is not hashed, expected 0", address.value, height);
  }
  const std::uint32_t depth = dinode.depth;
  const std::uint32_t least_depth = geometry.first_hash_depth();
  if (depth < least_depth)
    return fail_corrupt("dinode {}: hash depth {}, expected {} to {}", address.value, depth, least_depth, kDirMaxDepth);
  const std::uint64_t table_bytes = sizeof(be64) << depth;
  if (dinode.size != table_bytes)
    return fail_corrupt("dinode {}: size {} of a directory of hash depth {}, expected {}", address.value,
                        dinode.size.value(), depth, table_bytes);
  const std::uint64_t table_blocks = geometry.directory_data_blocks(table_bytes);
  if (height > 0 && table_blocks > geometry.height_capacity_blocks(height))
    return fail_corrupt("dinode {}: height {} holds {} blocks, but the hash table has {}", address.value, height,
                        geometry.height_capacity_blocks(height), table_blocks);
  return {};
}

}  // namespace

bool has_meta_type(std::span<const std::byte> block, MetaType type) {
  const auto& header = view<MetaHeader>(block);
  return header.magic == kMagic && header.meta_type() == type;
}

Result<> check_meta_header(std::span<const std::byte> block, BlockNo address, MetaType expected) {
  if (has_meta_type(block, expected)) return {};
  const auto& header = view<MetaHeader>(block);
  const std::uint32_t wanted = std::to_underlying(expected);
  if (header.magic != kMagic)
    return fail_corrupt("block {}: magic {:#010x}, expected {:#010x} ({})", address.value, header.magic.value(), kMagic,
                        type_name(wanted));
  return fail_corrupt("block {}: metadata type {} ({}), expected {} ({})", address.value, header.type.value(),
                      type_name(header.type), wanted, type_name(wanted));
}

Result<> check_pointer(BlockNo pointer, BlockNo holder, std::string_view field, const Geometry& geometry,
                       std::uint64_t volume_blocks) {
  if (pointer > geometry.superblock() && pointer.value < volume_blocks) return {};
  return fail_corrupt("block {}: {} points to block {}, expected one from {} to {}", holder.value, field, pointer.value,
                      geometry.superblock().value + 1, volume_blocks - 1);
}

Result<SuperblockInfo> parse_superblock(std::span<const std::byte> bytes, std::uint64_t device_bytes) {
  const auto& superblock = view<Superblock>(bytes);
  TRY_VOID(check_format(superblock));
  const std::uint32_t block_size = superblock.block_size;
  if (!std::has_single_bit(block_size) || block_size < kMinBlockBytes || block_size > kMaxBlockBytes)
    return fail_corrupt("superblock: block size {}, expected a power of two from {} to {}", block_size, kMinBlockBytes,
                        kMaxBlockBytes);
  const Geometry geometry(block_size);
  if (superblock.block_size_shift != geometry.block_shift())
    return fail_corrupt("superblock: block size shift {}, expected {} for blocks of {} bytes",
                        superblock.block_size_shift.value(), geometry.block_shift(), block_size);
  const std::uint64_t volume_blocks = device_bytes >> geometry.block_shift();
  TRY_VOID(check_inode_pointer(superblock.master_dir, "master", geometry, volume_blocks));
  TRY_VOID(check_inode_pointer(superblock.root_dir, "root", geometry, volume_blocks));
  if (superblock.master_dir.addr == superblock.root_dir.addr)
    return fail_corrupt("superblock: master and root directory are both at block {}", superblock.root_dir.addr.value());
  auto protocol = text_of(superblock.lock_protocol);
  if (!protocol)
    return fail_corrupt("superblock: lock protocol is not a printable text of at most {} characters",
                        kLockNameBytes - 1);
  auto table = text_of(superblock.lock_table);
  if (!table)
    return fail_corrupt("superblock: lock table is not a printable text of at most {} characters", kLockNameBytes - 1);
  return SuperblockInfo{
      geometry,          superblock.fs_format, superblock.master_dir, superblock.root_dir, *std::move(protocol),
      *std::move(table), superblock.uuid};
}

Result<> check_dinode(std::span<const std::byte> block, BlockNo address, const Geometry& geometry) {
  TRY_VOID(check_meta_header(block, address, MetaType::dinode));
  const auto& dinode = view<Dinode>(block);
  if (dinode.num.addr != address.value)
    return fail_corrupt("dinode {}: its own address says {}", address.value, dinode.num.addr.value());
  if (dinode.num.formal_ino == 0) return fail_corrupt("dinode {}: formal inode number is 0", address.value);
  const std::uint32_t kind = dinode.mode & S_IFMT;
  const bool regular = kind == S_IFREG;
  const bool directory = kind == S_IFDIR;
  const bool symlink = kind == S_IFLNK;
  if (!regular && !directory && !symlink && kind != S_IFCHR && kind != S_IFBLK && kind != S_IFIFO && kind != S_IFSOCK)
    return fail_corrupt("dinode {}: mode {:#o} is no type of file", address.value, dinode.mode.value());

  const std::uint32_t height = dinode.height;
  const std::uint64_t size = dinode.size;
  const std::uint32_t most_height = regular || directory ? geometry.max_height() : 0;
  if (height > most_height)
    return fail_corrupt("dinode {}: height {}, expected at most {}", address.value, height, most_height);
  if (size > std::uint64_t{std::numeric_limits<std::int64_t>::max()})
    return fail_corrupt("dinode {}: size {} is beyond the greatest file size", address.value, size);
  if (height == 0 && size > geometry.stuffed_bytes())
    return fail_corrupt("dinode {}: size {} within the inode, expected at most {}", address.value, size,
                        geometry.stuffed_bytes());
  if (symlink && size == 0) return fail_corrupt("dinode {}: symbolic link of size 0", address.value);
  if (symlink && dinode.entries != 0 && dinode.eattr == 0)
    return fail_corrupt("dinode {}: symbolic link with its target of {} bytes in an attribute, but without attributes",
                        address.value, dinode.entries.value());
  if (dinode.depth > kDirMaxDepth)
    return fail_corrupt("dinode {}: hash depth {}, expected at most {}", address.value, dinode.depth.value(),
                        kDirMaxDepth);
  if (directory) return check_dinode_directory(dinode, address, geometry);
  return {};
}

Result<> check_rindex_entry(const ResourceGroupIndexEntry& entry, std::uint64_t index, const Geometry& geometry,
                            std::uint64_t volume_blocks) {
  const std::uint64_t addr = entry.addr;
  const std::uint64_t length = entry.length;
  const std::uint64_t data0 = entry.data0;
  const std::uint64_t data = entry.data;
  const std::uint64_t bitmap_bytes = entry.bitmap_bytes;
  if (addr <= geometry.superblock().value || addr >= volume_blocks)
    return fail_corrupt("rindex entry {}: resource group at block {}, expected one from {} to {}", index, addr,
                        geometry.superblock().value + 1, volume_blocks - 1);
  if (data == 0 || data != bitmap_bytes * kBlocksPerBitmapByte)
    return fail_corrupt("rindex entry {} (block {}): {} data blocks and {} bitmap bytes, expected {} blocks a byte",
                        index, addr, data, bitmap_bytes, kBlocksPerBitmapByte);
  if (length == 0 || bitmap_bytes > geometry.rgrp_bitmap_bytes(length) ||
      (length > 1 && bitmap_bytes <= geometry.rgrp_bitmap_bytes(length - 1)))
    return fail_corrupt("rindex entry {} (block {}): {} header blocks do not match {} bitmap bytes", index, addr,
                        length, bitmap_bytes);
  if (data0 < addr + length || data0 >= volume_blocks || data > volume_blocks - data0)
    return fail_corrupt("rindex entry {} (block {}): {} data blocks from block {}, expected within {} to {}", index,
                        addr, data, data0, addr + length, volume_blocks - 1);
  return {};
}

Result<> check_rgrp(std::span<const std::byte> block, const ResourceGroupIndexEntry& entry) {
  const BlockNo address(entry.addr);
  TRY_VOID(check_meta_header(block, address, MetaType::resource_group));
  const auto& group = view<ResourceGroup>(block);
  if (group.crc != 0) {
    const std::uint32_t crc = rgrp_crc(group);
    if (group.crc != crc)
      return fail_corrupt("resource group {}: crc {:#010x}, computed {:#010x}", address.value, group.crc.value(), crc);
  }
  if (group.free > entry.data || group.dinodes > entry.data - group.free)
    return fail_corrupt("resource group {}: {} free blocks and {} dinodes of {} blocks", address.value,
                        group.free.value(), group.dinodes.value(), entry.data.value());
  // Kernels before 4.16 left these fields 0.
  if (group.data0 != 0 &&
      (group.data0 != entry.data0 || group.data != entry.data || group.bitmap_bytes != entry.bitmap_bytes))
    return fail_corrupt("resource group {}: {} data blocks from block {}, but {} from {} in the rindex", address.value,
                        group.data.value(), group.data0.value(), entry.data.value(), entry.data0.value());
  return {};
}

Result<> check_leaf(std::span<const std::byte> block, BlockNo address, std::uint32_t directory_depth) {
  TRY_VOID(check_meta_header(block, address, MetaType::leaf));
  const auto& leaf = view<Leaf>(block);
  if (leaf.depth > directory_depth)
    return fail_corrupt("directory leaf {}: depth {}, expected at most the directory's {}", address.value,
                        leaf.depth.value(), directory_depth);
  const std::size_t most = (block.size() - sizeof(Leaf)) / kMinDirentBytes;
  if (leaf.entries > most)
    return fail_corrupt("directory leaf {}: {} entries, but only {} fit", address.value, leaf.entries.value(), most);
  if (leaf.next == address.value) return fail_corrupt("directory leaf {}: its next leaf is itself", address.value);
  return {};
}

Result<> check_log_header(std::span<const std::byte> block, FileBlock place) {
  if (!has_meta_type(block, MetaType::log_header))
    return fail_corrupt("journal block {}: not a log header", place.value);
  const auto& header = view<LogHeader>(block);
  if (header.block_number != place.value)
    return fail_corrupt("log header at journal block {}: says that it is block {}", place.value,
                        header.block_number.value());
  const std::uint32_t hash = log_header_hash(header);
  if (header.hash != hash)
    return fail_corrupt("log header at journal block {}: hash {:#010x}, computed {:#010x}", place.value,
                        header.hash.value(), hash);
  // Kernels before 4.16 wrote headers without a crc.
  if (header.crc == 0) return {};
  const std::uint32_t crc = log_header_crc(block);
  if (header.crc != crc)
    return fail_corrupt("log header at journal block {}: crc {:#010x}, computed {:#010x}", place.value,
                        header.crc.value(), crc);
  return {};
}

Result<> check_log_tail(const LogHeader& header, std::uint64_t journal_blocks) {
  if (header.tail < journal_blocks) return {};
  return fail_corrupt("log header at journal block {}: tail {}, expected less than {}", header.block_number.value(),
                      header.tail.value(), journal_blocks);
}

Result<> check_log_descriptor(std::span<const std::byte> block, FileBlock place, std::uint64_t journal_blocks) {
  if (!has_meta_type(block, MetaType::log_descriptor))
    return fail_corrupt("journal block {}: not a log descriptor", place.value);
  const auto& descriptor = view<LogDescriptor>(block);
  const std::uint64_t length = descriptor.length;
  const std::uint64_t entries = descriptor.data1;
  if (length == 0 || length >= journal_blocks)
    return fail_corrupt("log descriptor at journal block {}: length {}, expected 1 to {}", place.value, length,
                        journal_blocks - 1);
  const std::uint64_t words = (block.size() - sizeof(LogDescriptor)) / sizeof(be64);
  std::uint64_t most = 0;
  switch (static_cast<LogDescriptorType>(descriptor.type.value())) {
    case LogDescriptorType::metadata:
      most = std::min(words, length - 1);
      break;
    case LogDescriptorType::journaled_data:
      most = std::min(words / 2, length - 1);
      break;
    case LogDescriptorType::revoke:
      most = words + (length - 1) * ((block.size() - sizeof(MetaHeader)) / sizeof(be64));
      break;
    default:
      return {};
  }
  if (entries > most)
    return fail_corrupt("log descriptor at journal block {}: {} entries of type {} in {} blocks, expected at most {}",
                        place.value, entries, descriptor.type.value(), length, most);
  return {};
}

Result<std::span<const QuotaChange>> quota_changes(std::span<const std::byte> block, BlockNo address) {
  TRY_VOID(check_meta_header(block, address, MetaType::quota_change));
  const std::size_t count = (block.size() - sizeof(MetaHeader)) / sizeof(QuotaChange);
  return std::span(&view<QuotaChange>(block, sizeof(MetaHeader)), count);
}

bool is_valid_name(std::string_view name) {
  return !name.empty() && name.size() <= kNameMaxBytes && name.find('/') == name.npos && name.find('\0') == name.npos;
}

}  // namespace corral::ondisk
