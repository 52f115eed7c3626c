/// The structures of a GFS2 volume, byte for byte as in linux/gfs2_ondisk.h (each names its origin). All have alignment
/// 1, so they may be laid over any bytes with view<T>(). Field names drop the C prefixes; meanings are the kernel's.
#pragma once

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

#include "base/check.h"
#include "base/strong.h"
#include "ondisk/endian.h"

namespace corral::ondisk {

constexpr std::uint32_t kMagic = 0x01161970;             ///< GFS2_MAGIC
constexpr std::uint32_t kBasicBlockBytes = 512;          ///< GFS2_BASIC_BLOCK
constexpr std::uint64_t kSuperblockOffsetBytes = 65536;  ///< GFS2_SB_ADDR basic blocks
constexpr std::size_t kLockNameBytes = 64;               ///< GFS2_LOCKNAME_LEN, terminating zero included
constexpr std::uint32_t kMultihostFormat = 1900;         ///< GFS2_FORMAT_MULTI
constexpr std::uint32_t kFilesystemFormatMin = 1801;
constexpr std::uint32_t kFilesystemFormatMax = 1802;
constexpr std::uint32_t kMaxMetaHeight = 10;     ///< GFS2_MAX_META_HEIGHT
constexpr std::uint32_t kDirMaxDepth = 17;       ///< GFS2_DIR_MAX_DEPTH
constexpr std::size_t kNameMaxBytes = 255;       ///< GFS2_FNAMESIZE
constexpr std::uint64_t kInumQuantum = 1048576;  ///< GFS2_INUM_QUANTUM
constexpr std::size_t kEaNameMaxBytes = 255;
constexpr std::size_t kEaDataMaxBytes = 65536;

/// GFS2_METATYPE_*: what a metadata block is (mh_type).
enum class MetaType : std::uint32_t {
  none = 0,
  superblock = 1,
  resource_group = 2,
  resource_group_bitmap = 3,
  dinode = 4,
  indirect = 5,
  leaf = 6,
  journaled_data = 7,
  log_header = 8,
  log_descriptor = 9,
  ea_block = 10,
  ea_data = 11,
  log_block = 12,
  quota_change = 14,
};

/// GFS2_FORMAT_* of a metadata type (mh_format).
constexpr std::uint32_t format_of(MetaType type) {
  switch (type) {
    case MetaType::none:
      return 0;
    case MetaType::superblock:
      return 100;
    case MetaType::resource_group:
      return 200;
    case MetaType::resource_group_bitmap:
      return 300;
    case MetaType::dinode:
      return 400;
    case MetaType::indirect:
      return 500;
    case MetaType::leaf:
      return 600;
    case MetaType::journaled_data:
      return 700;
    case MetaType::log_header:
      return 800;
    case MetaType::log_descriptor:
      return 900;
    case MetaType::log_block:
      return 1000;
    case MetaType::ea_block:
      return 1600;
    case MetaType::ea_data:
      return 1700;
    case MetaType::quota_change:
      return 1400;
  }
  return 0;
}

constexpr std::uint32_t kFormatResourceIndex = 1100;  ///< GFS2_FORMAT_RI, payload_format of rindex
constexpr std::uint32_t kFormatDirent = 1200;         ///< GFS2_FORMAT_DE, payload_format of stuffed directories
constexpr std::uint32_t kFormatQuota = 1500;          ///< GFS2_FORMAT_QU, payload_format of the quota file

/// struct gfs2_inum: identity of an inode. formal_ino is never reused within a volume; addr is its block.
struct InodeIdentity {
  be64 formal_ino;
  be64 addr;
};
static_assert(sizeof(InodeIdentity) == 16);

/// struct gfs2_meta_header: begins every metadata block.
struct MetaHeader {
  be32 magic;
  be32 type;
  be64 reserved0;
  be32 format;
  be32 jid;

  MetaType meta_type() const { return static_cast<MetaType>(type.value()); }
  void set(MetaType new_type) {
    magic = kMagic;
    type = static_cast<std::uint32_t>(new_type);
    format = format_of(new_type);
  }
};
static_assert(sizeof(MetaHeader) == 24);

/// struct gfs2_sb, at byte 65536 of the device.
struct Superblock {
  MetaHeader header;
  be32 fs_format;
  be32 multihost_format;
  be32 reserved0;
  be32 block_size;        ///< bytes
  be32 block_size_shift;  ///< log2 of block_size
  be32 reserved1;
  InodeIdentity master_dir;
  InodeIdentity reserved2;
  InodeIdentity root_dir;
  std::array<char, kLockNameBytes> lock_protocol;
  std::array<char, kLockNameBytes> lock_table;
  InodeIdentity reserved3;
  InodeIdentity reserved4;
  std::array<std::uint8_t, 16> uuid;
};
static_assert(sizeof(Superblock) == 272 && offsetof(Superblock, lock_protocol) == 96 &&
              offsetof(Superblock, uuid) == 256);

/// struct gfs2_rindex: one entry of the rindex file.
struct ResourceGroupIndexEntry {
  be64 addr;    ///< block of the resource group's header
  be32 length;  ///< blocks of header and bitmaps
  be32 reserved0;
  be64 data0;         ///< first block of the group's data
  be32 data;          ///< number of data blocks
  be32 bitmap_bytes;  ///< bytes of bitmap, a quarter of `data`
  std::array<std::uint8_t, 64> reserved;
};
static_assert(sizeof(ResourceGroupIndexEntry) == 96);

/// GFS2_BLKST_*: two bits a block in the bitmaps, lowest bits of a byte first.
enum class BlockState : std::uint8_t { free = 0, used = 1, unlinked = 2, dinode = 3 };
constexpr std::uint32_t kBlocksPerBitmapByte = 4;

/// rg_flags
constexpr std::uint32_t kRgrpNoAllocate = 0x00000008;  ///< GFS2_RGF_NOALLOC
constexpr std::uint32_t kRgrpTrimmed = 0x00000010;     ///< GFS2_RGF_TRIMMED

/// struct gfs2_rgrp: header of a resource group; its bitmap starts right behind it and goes on in the following blocks,
/// there behind a MetaHeader of type resource_group_bitmap.
struct ResourceGroup {
  MetaHeader header;
  be32 flags;
  be32 free;     ///< free blocks
  be32 dinodes;  ///< allocated dinodes
  be32 skip;     ///< blocks to the next resource group, 0 in the last one
  be64 inode_generation;
  be64 data0;
  be32 data;
  be32 bitmap_bytes;
  be32 crc;  ///< zlib CRC-32 of these 128 bytes with this field 0; see rgrp_crc()
  std::array<std::uint8_t, 60> reserved;
};
static_assert(sizeof(ResourceGroup) == 128);
/// Where the bitmap begins in the group's first block (0) and in those behind it.
constexpr std::size_t bitmap_offset(std::uint64_t group_block) {
  return group_block == 0 ? sizeof(ResourceGroup) : sizeof(MetaHeader);
}

/// struct gfs2_quota: one record of the quota file, in filesystem blocks.
struct Quota {
  be64 limit;
  be64 warn;
  be64 value;  ///< signed
  std::array<std::uint8_t, 64> reserved;
};
static_assert(sizeof(Quota) == 88);

/// GFS2_DIF_*: di_flags
constexpr std::uint32_t kDinodeJournaledData = 0x00000001;
constexpr std::uint32_t kDinodeHashedDirectory = 0x00000002;  ///< GFS2_DIF_EXHASH
constexpr std::uint32_t kDinodeEaIndirect = 0x00000008;
constexpr std::uint32_t kDinodeImmutable = 0x00000020;
constexpr std::uint32_t kDinodeAppendOnly = 0x00000040;
constexpr std::uint32_t kDinodeNoAtime = 0x00000080;
constexpr std::uint32_t kDinodeSync = 0x00000100;
constexpr std::uint32_t kDinodeSystem = 0x00000200;
constexpr std::uint32_t kDinodeTopDirectory = 0x00000400;
constexpr std::uint32_t kDinodeTruncateInProgress = 0x20000000;
constexpr std::uint32_t kDinodeInheritJournaledData = 0x80000000;

/// struct gfs2_dinode: one block per inode. Behind it, to the end of the block: file contents (height 0: "stuffed"),
/// dirents (stuffed directory), a symlink's target, or big-endian block pointers (height > 0).
struct Dinode {
  MetaHeader header;
  InodeIdentity num;
  be32 mode;
  be32 uid;
  be32 gid;
  be32 nlink;
  be64 size;    ///< bytes
  be64 blocks;  ///< allocated filesystem blocks, this one and all metadata included
  be64 atime;   ///< seconds since 1970, signed
  be64 mtime;
  be64 ctime;
  be32 major;
  be32 minor;
  be64 goal_meta;
  be64 goal_data;
  be64 generation;
  be32 flags;
  be32 payload_format;
  be16 reserved1;
  be16 height;
  be32 reserved2;
  be16 reserved3;
  be16 depth;    ///< hashed directories: log2 of the hash table's entries
  be32 entries;  ///< directories: number of dirents, "." and ".." included; see also fs/symlink_target.h
  InodeIdentity reserved4;
  be64 eattr;  ///< block of the extended attributes, 0 if none
  be32 atime_nanoseconds;
  be32 mtime_nanoseconds;
  be32 ctime_nanoseconds;
  std::array<std::uint8_t, 44> reserved;
};
static_assert(sizeof(Dinode) == 232 && offsetof(Dinode, eattr) == 168);

/// struct gfs2_dirent: the name follows; record_length bytes in all, a multiple of 8. An unused first entry has addr 0.
struct Dirent {
  InodeIdentity inum;
  be32 hash;           ///< zlib CRC-32 of the name
  be16 record_length;  ///< bytes to the next dirent
  be16 name_length;    ///< bytes
  be16 type;           ///< DT_* of the inode
  be16 read_ahead;
  std::array<std::uint8_t, 12> reserved;

  const char* name() const { return reinterpret_cast<const char*>(this) + sizeof(*this); }
  char* name() { return reinterpret_cast<char*>(this) + sizeof(*this); }
};
static_assert(sizeof(Dirent) == 40);

/// Bytes that a dirent for a name of that length needs.
constexpr std::uint32_t dirent_bytes(std::size_t name_length) {
  return static_cast<std::uint32_t>((sizeof(Dirent) + name_length + 7) & ~std::size_t{7});
}

/// struct gfs2_leaf: header of a hashed directory's leaf block; dirents follow.
struct Leaf {
  MetaHeader header;
  be16 depth;
  be16 entries;
  be32 dirent_format;  ///< kFormatDirent
  be64 next;           ///< block of the next leaf of the chain, 0 at its end
  be64 inode;          ///< block of the directory's dinode
  be32 distance;       ///< place in the chain
  be32 nanoseconds;
  be64 seconds;
  std::array<std::uint8_t, 40> reserved;
};
static_assert(sizeof(Leaf) == 104);

/// ea_type
enum class EaType : std::uint8_t { unused = 0, user = 1, system = 2, security = 3, trusted = 4 };
constexpr std::uint8_t kEaFlagLast = 0x01;  ///< GFS2_EAFLAG_LAST

/// struct gfs2_ea_header: the name follows, then the value (num_ptrs 0), or, 8-byte aligned, num_ptrs block pointers.
struct ExtendedAttributeHeader {
  be32 record_length;  ///< bytes to the next one
  be32 data_length;    ///< bytes of the value
  std::uint8_t name_length;
  std::uint8_t type;   ///< EaType
  std::uint8_t flags;  ///< kEaFlagLast
  std::uint8_t num_ptrs;
  be32 reserved0;
};
static_assert(sizeof(ExtendedAttributeHeader) == 16);

/// lh_flags
constexpr std::uint32_t kLogHeadUnmount = 0x00000001;
constexpr std::uint32_t kLogHeadFlushNormal = 0x00000002;
constexpr std::uint32_t kLogHeadFlushSync = 0x00000004;
constexpr std::uint32_t kLogHeadFlushShutdown = 0x00000008;
constexpr std::uint32_t kLogHeadFlushFreeze = 0x00000010;
constexpr std::uint32_t kLogHeadRecovery = 0x00000020;
constexpr std::uint32_t kLogHeadUserspace = 0x80000000;

/// struct gfs2_log_header: ends every transaction of a journal.
struct LogHeader {
  MetaHeader header;
  be64 sequence;
  be32 flags;
  be32 tail;          ///< journal block at which replay begins
  be32 block_number;  ///< journal block of this header
  be32 hash;          ///< zlib CRC-32 of the first 48 bytes with this field 0
  be32 crc;           ///< CRC-32C from `nanoseconds` to the block's end, all ones at first, not inverted at last
  be32 nanoseconds;
  be64 seconds;
  be64 addr;           ///< block of this header on the device
  be64 journal_inode;  ///< block of the journal's dinode
  be64 statfs_addr;    ///< block of the node's statfs_change dinode
  be64 quota_addr;     ///< block of the node's quota_change dinode
  be64 local_total;    ///< signed: the node's statfs changes not yet in the master statfs file
  be64 local_free;
  be64 local_dinodes;
};
static_assert(sizeof(LogHeader) == 120 && offsetof(LogHeader, hash) == 44 && offsetof(LogHeader, nanoseconds) == 52);

/// ld_type
enum class LogDescriptorType : std::uint32_t { metadata = 300, revoke = 301, journaled_data = 302 };

/// struct gfs2_log_descriptor: precedes `length` - 1 logged blocks. metadata: data1 block numbers follow;
/// journaled_data: data1 pairs (block number, 1 if its first word was zeroed because it equals the magic number);
/// revoke: data1 block numbers, which go on in log_block blocks.
struct LogDescriptor {
  MetaHeader header;
  be32 type;
  be32 length;
  be32 data1;
  be32 data2;
  std::array<std::uint8_t, 32> reserved;
};
static_assert(sizeof(LogDescriptor) == 72);

/// struct gfs2_inum_range: inum_rangeN files (stuffed); the master `inum` file holds just the next free number as be64.
struct InumRange {
  be64 start;
  be64 length;
};
static_assert(sizeof(InumRange) == 16);

/// struct gfs2_statfs_change: the `statfs` file and statfs_changeN files (stuffed); signed values.
struct StatfsChange {
  be64 total;
  be64 free;
  be64 dinodes;
};
static_assert(sizeof(StatfsChange) == 24);

constexpr std::uint32_t kQuotaChangeUser = 0x00000001;  ///< GFS2_QCF_USER

/// struct gfs2_quota_change: records behind the MetaHeader (type quota_change) in each block of a quota_changeN file.
struct QuotaChange {
  be64 change;  ///< signed, blocks
  be32 flags;   ///< kQuotaChangeUser or 0 for a group
  be32 id;
};
static_assert(sizeof(QuotaChange) == 16);

namespace detail {
template <class Bytes>
constexpr bool kWritable = std::convertible_to<Bytes&, std::span<std::byte>>;
template <class Bytes, class T>
using LikeBytes = std::conditional_t<kWritable<Bytes>, T, const T>;
}  // namespace detail

/// A span, buffer or container of bytes that lives at least as long as what is laid over it.
template <class Bytes>
concept BytesHolder = std::convertible_to<Bytes&, std::span<const std::byte>>;

/// Lays T over the bytes at `offset` (const if the bytes are); the caller has checked that they are there.
template <class T, BytesHolder Bytes>
auto& view(Bytes&& bytes, std::size_t offset = 0) {
  static_assert(alignof(T) == 1);
  std::span<detail::LikeBytes<Bytes, std::byte>> all = bytes;
  CHECK_INVARIANT(offset + sizeof(T) <= all.size());
  return *reinterpret_cast<detail::LikeBytes<Bytes, T>*>(all.data() + offset);
}

/// The block pointers behind a dinode or a MetaHeader, `header_bytes` from the block's start to its end.
template <BytesHolder Bytes>
auto pointers(Bytes&& block, std::size_t header_bytes) {
  std::span<detail::LikeBytes<Bytes, std::byte>> all = block;
  CHECK_INVARIANT(header_bytes <= all.size());
  using Pointer = detail::LikeBytes<Bytes, be64>;
  return std::span<Pointer>(reinterpret_cast<Pointer*>(all.data() + header_bytes), (all.size() - header_bytes) / 8);
}

}  // namespace corral::ondisk
