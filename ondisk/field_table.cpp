#include "ondisk/field_table.h"

#include <array>
#include <cstdlib>

#include <fmt/format.h>
#include <linux/gfs2_ondisk.h>

#include "base/check.h"

namespace corral::ondisk {

namespace {

// A field by its name in the kernel's header, which is where its place and size come from.
#define FIELD(structure, member)                                    \
  Field {                                                           \
    #member, offsetof(structure, member), sizeof(structure::member) \
  }
#define FIELD_OF_KIND(structure, member, kind)                                       \
  Field {                                                                            \
    #member, offsetof(structure, member), sizeof(structure::member), FieldKind::kind \
  }
// One within a structure within it.
#define INNER_FIELD(structure, outer, inner_structure, member)                                               \
  Field {                                                                                                    \
    #member, offsetof(structure, outer) + offsetof(inner_structure, member), sizeof(inner_structure::member) \
  }
#define HEADER_FIELDS \
  FIELD_OF_KIND(gfs2_meta_header, mh_magic, flags), FIELD(gfs2_meta_header, mh_type), FIELD(gfs2_meta_header, mh_format)

constexpr std::array kHeader{HEADER_FIELDS};

constexpr std::array kSuperblock{HEADER_FIELDS,
                                 FIELD(gfs2_sb, sb_fs_format),
                                 FIELD(gfs2_sb, sb_multihost_format),
                                 FIELD(gfs2_sb, sb_bsize),
                                 FIELD(gfs2_sb, sb_bsize_shift),
                                 Field{"sb_master_dir.no_formal_ino", offsetof(gfs2_sb, sb_master_dir), 8},
                                 Field{"sb_master_dir.no_addr", offsetof(gfs2_sb, sb_master_dir) + 8, 8},
                                 Field{"sb_root_dir.no_formal_ino", offsetof(gfs2_sb, sb_root_dir), 8},
                                 Field{"sb_root_dir.no_addr", offsetof(gfs2_sb, sb_root_dir) + 8, 8},
                                 FIELD_OF_KIND(gfs2_sb, sb_lockproto, text),
                                 FIELD_OF_KIND(gfs2_sb, sb_locktable, text),
                                 FIELD_OF_KIND(gfs2_sb, sb_uuid, uuid)};

constexpr std::array kRgrp{HEADER_FIELDS,
                           FIELD_OF_KIND(gfs2_rgrp, rg_flags, flags),
                           FIELD(gfs2_rgrp, rg_free),
                           FIELD(gfs2_rgrp, rg_dinodes),
                           FIELD(gfs2_rgrp, rg_skip),
                           FIELD(gfs2_rgrp, rg_igeneration),
                           FIELD(gfs2_rgrp, rg_data0),
                           FIELD(gfs2_rgrp, rg_data),
                           FIELD(gfs2_rgrp, rg_bitbytes),
                           FIELD(gfs2_rgrp, rg_crc)};

constexpr std::array kRindex{FIELD(gfs2_rindex, ri_addr), FIELD(gfs2_rindex, ri_length), FIELD(gfs2_rindex, ri_data0),
                             FIELD(gfs2_rindex, ri_data), FIELD(gfs2_rindex, ri_bitbytes)};

constexpr std::array kDinode{HEADER_FIELDS,
                             INNER_FIELD(gfs2_dinode, di_num, gfs2_inum, no_formal_ino),
                             INNER_FIELD(gfs2_dinode, di_num, gfs2_inum, no_addr),
                             FIELD_OF_KIND(gfs2_dinode, di_mode, mode),
                             FIELD(gfs2_dinode, di_uid),
                             FIELD(gfs2_dinode, di_gid),
                             FIELD(gfs2_dinode, di_nlink),
                             FIELD(gfs2_dinode, di_size),
                             FIELD(gfs2_dinode, di_blocks),
                             FIELD_OF_KIND(gfs2_dinode, di_atime, signed_number),
                             FIELD_OF_KIND(gfs2_dinode, di_mtime, signed_number),
                             FIELD_OF_KIND(gfs2_dinode, di_ctime, signed_number),
                             FIELD(gfs2_dinode, di_major),
                             FIELD(gfs2_dinode, di_minor),
                             FIELD(gfs2_dinode, di_goal_meta),
                             FIELD(gfs2_dinode, di_goal_data),
                             FIELD(gfs2_dinode, di_generation),
                             FIELD_OF_KIND(gfs2_dinode, di_flags, flags),
                             FIELD(gfs2_dinode, di_payload_format),
                             FIELD(gfs2_dinode, di_height),
                             FIELD(gfs2_dinode, di_depth),
                             FIELD(gfs2_dinode, di_entries),
                             FIELD(gfs2_dinode, di_eattr),
                             FIELD(gfs2_dinode, di_atime_nsec),
                             FIELD(gfs2_dinode, di_mtime_nsec),
                             FIELD(gfs2_dinode, di_ctime_nsec)};

constexpr std::array kLeaf{HEADER_FIELDS,
                           FIELD(gfs2_leaf, lf_depth),
                           FIELD(gfs2_leaf, lf_entries),
                           FIELD(gfs2_leaf, lf_dirent_format),
                           FIELD(gfs2_leaf, lf_next),
                           FIELD(gfs2_leaf, lf_inode),
                           FIELD(gfs2_leaf, lf_dist),
                           FIELD(gfs2_leaf, lf_nsec),
                           FIELD(gfs2_leaf, lf_sec)};

constexpr std::array kLogHeader{HEADER_FIELDS,
                                FIELD(gfs2_log_header, lh_sequence),
                                FIELD_OF_KIND(gfs2_log_header, lh_flags, flags),
                                FIELD(gfs2_log_header, lh_tail),
                                FIELD(gfs2_log_header, lh_blkno),
                                FIELD_OF_KIND(gfs2_log_header, lh_hash, flags),
                                FIELD_OF_KIND(gfs2_log_header, lh_crc, flags),
                                FIELD(gfs2_log_header, lh_nsec),
                                FIELD(gfs2_log_header, lh_sec),
                                FIELD(gfs2_log_header, lh_addr),
                                FIELD(gfs2_log_header, lh_jinode),
                                FIELD(gfs2_log_header, lh_statfs_addr),
                                FIELD(gfs2_log_header, lh_quota_addr),
                                FIELD_OF_KIND(gfs2_log_header, lh_local_total, signed_number),
                                FIELD_OF_KIND(gfs2_log_header, lh_local_free, signed_number),
                                FIELD_OF_KIND(gfs2_log_header, lh_local_dinodes, signed_number)};

constexpr std::array kLogDescriptor{HEADER_FIELDS, FIELD(gfs2_log_descriptor, ld_type),
                                    FIELD(gfs2_log_descriptor, ld_length), FIELD(gfs2_log_descriptor, ld_data1),
                                    FIELD(gfs2_log_descriptor, ld_data2)};

#undef FIELD
#undef FIELD_OF_KIND
#undef INNER_FIELD
#undef HEADER_FIELDS

std::string describe_text(std::span<const std::byte> bytes) {
  std::string text;
  for (std::byte byte : bytes) {
    const char character = std::to_integer<char>(byte);
    if (character == 0) break;
    text += character >= ' ' && character <= '~' ? std::string(1, character)
                                                 : fmt::format("\\x{:02x}", std::to_integer<int>(byte));
  }
  return text;
}
}  // namespace

std::span<const Field> fields_of(MetaType type) {
  switch (type) {
    case MetaType::superblock:
      return kSuperblock;
    case MetaType::resource_group:
      return kRgrp;
    case MetaType::dinode:
      return kDinode;
    case MetaType::leaf:
      return kLeaf;
    case MetaType::log_header:
      return kLogHeader;
    case MetaType::log_descriptor:
      return kLogDescriptor;
    default:
      return kHeader;
  }
}

std::span<const Field> rindex_fields() {
  return kRindex;
}

std::uint64_t field_number(const Field& field, std::span<const std::byte> bytes) {
  std::uint64_t value = 0;
  for (std::byte byte : bytes.subspan(field.offset, field.bytes))
    value = value << 8 | std::to_integer<std::uint64_t>(byte);
  return value;
}

std::string describe_uuid(std::span<const std::byte> bytes) {
  std::string text;
  for (std::size_t i = 0; i < bytes.size(); ++i)
    text += fmt::format("{}{:02x}", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", std::to_integer<int>(bytes[i]));
  return text;
}

std::string describe_field(const Field& field, std::span<const std::byte> bytes) {
  switch (field.kind) {
    case FieldKind::text:
      return describe_text(bytes.subspan(field.offset, field.bytes));
    case FieldKind::uuid:
      return describe_uuid(bytes.subspan(field.offset, field.bytes));
    case FieldKind::flags:
      return fmt::format("{:#010x}", field_number(field, bytes));
    case FieldKind::mode:
      return fmt::format("0{:o}", field_number(field, bytes));
    case FieldKind::signed_number:
      return fmt::format("{}", static_cast<std::int64_t>(field_number(field, bytes)));
    case FieldKind::number:
      break;
  }
  return fmt::format("{}", field_number(field, bytes));
}

std::string describe_type(MetaType type) {
  switch (type) {
    case MetaType::superblock:
      return "superblock";
    case MetaType::resource_group:
      return "resource group";
    case MetaType::resource_group_bitmap:
      return "bitmap";
    case MetaType::dinode:
      return "dinode";
    case MetaType::indirect:
      return "indirect block";
    case MetaType::leaf:
      return "leaf";
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
    default:
      return fmt::format("type {}", static_cast<std::uint32_t>(type));
  }
}

}  // namespace corral::ondisk
