/// Checks of single structures read from disk, as pure functions from bytes to a Result.
///
/// They find what would make our own code misbehave: bytes of the wrong kind, sizes and depths that reach beyond a
/// block, a table or the volume, identities that do not match. Whether structures agree with each other (link counts,
/// bitmaps, lost blocks) is fsck's business and not checked here. mh_format is not checked, as the kernel does not
/// either.
///
/// Every function takes the whole block (a span of exactly the block size, whatever its contents) and the block's
/// address for the message. Failures are fail_corrupt (EIO) with block, field, found and expected value, unless said
/// otherwise. Time stamps are not checked: nanoseconds may be any 32-bit number.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/strong.h"
#include "ondisk/geometry.h"
#include "ondisk/layout.h"

namespace corral::ondisk {

/// What a superblock says, checked.
struct SuperblockInfo {
  Geometry geometry;
  std::uint32_t fs_format;  ///< 1801 or 1802
  InodeIdentity master_dir;
  InodeIdentity root_dir;
  std::string lock_protocol;
  std::string lock_table;
  std::array<std::uint8_t, 16> uuid;
};

/// True if the block begins with the magic number and that type: cheap, for scans that expect many other blocks.
bool has_meta_type(std::span<const std::byte> block, MetaType type);

/// struct gfs2_meta_header: the block is metadata of the expected type.
Result<> check_meta_header(std::span<const std::byte> block, BlockNo address, MetaType expected);

/// A block pointer found in block `holder` (`field` names it): behind the superblock and within a volume of so many
/// blocks. 0 (a hole, no such block) is the caller's to sort out before.
Result<> check_pointer(BlockNo pointer, BlockNo holder, std::string_view field, const Geometry& geometry,
                       std::uint64_t volume_blocks);

/// struct gfs2_sb: `bytes` are those at kSuperblockOffsetBytes of the device, at least 512. EINVAL (not a corruption)
/// where there is no superblock at all or one of a format that we do not know.
Result<SuperblockInfo> parse_superblock(std::span<const std::byte> bytes, std::uint64_t device_bytes);

/// struct gfs2_dinode. After it: the type is one of the seven; height, depth and size fit the geometry; a stuffed
/// inode's contents lie within the block; symlinks, devices, fifos and sockets are stuffed; a hashed directory's size
/// is that of its table of 1 << depth pointers.
Result<> check_dinode(std::span<const std::byte> block, BlockNo address, const Geometry& geometry);

/// struct gfs2_rindex number `index`. After it: header and bitmaps are as long as the bitmap needs, they and the data
/// lie within the volume, behind the superblock, and do not overlap.
Result<> check_rindex_entry(const ResourceGroupIndexEntry& entry, std::uint64_t index, const Geometry& geometry,
                            std::uint64_t volume_blocks);

/// struct gfs2_rgrp, first block of the resource group that `entry` (checked) describes: type, crc (0: not kept by
/// whoever wrote it), counts within the group's size, and the same place and size as in the rindex.
Result<> check_rgrp(std::span<const std::byte> block, const ResourceGroupIndexEntry& entry);

/// struct gfs2_leaf of a directory whose table has 1 << directory_depth entries.
Result<> check_leaf(std::span<const std::byte> block, BlockNo address, std::uint32_t directory_depth);

/// struct gfs2_log_header at journal block `place`: type, lh_blkno, hash and crc. A failure only means that this block
/// does not hold a header that was written completely.
Result<> check_log_header(std::span<const std::byte> block, FileBlock place);

/// lh_tail of a checked header lies within a journal of so many blocks.
Result<> check_log_tail(const LogHeader& header, std::uint64_t journal_blocks);

/// struct gfs2_log_descriptor at journal block `place`: its entries fit the block (and, of revokes, those following)
/// and the blocks that it announces, and these fit the journal. Types other than metadata, revoke and journaled data
/// pass.
Result<> check_log_descriptor(std::span<const std::byte> block, FileBlock place, std::uint64_t journal_blocks);

/// The records of a block of a quota_changeN file (checked to have that type).
Result<std::span<const QuotaChange>> quota_changes(std::span<const std::byte> block, BlockNo address);

/// A name that a directory may hold and the kernel will take from us: 1 to 255 bytes, none of them '/' or 0.
bool is_valid_name(std::string_view name);

}  // namespace corral::ondisk
