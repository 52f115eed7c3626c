// The layouts against the kernel's own header: nothing here runs.
#include <linux/gfs2_ondisk.h>

#include "ondisk/layout.h"

#define SAME_SIZE(kernel, ours) static_assert(sizeof(kernel) == sizeof(corral::ondisk::ours))
#define SAME_FIELD(kernel, kernel_field, ours, our_field) \
  static_assert(offsetof(kernel, kernel_field) == offsetof(corral::ondisk::ours, our_field))

SAME_SIZE(gfs2_meta_header, MetaHeader);
SAME_SIZE(gfs2_sb, Superblock);
SAME_FIELD(gfs2_sb, sb_bsize, Superblock, block_size);
SAME_FIELD(gfs2_sb, sb_root_dir, Superblock, root_dir);
SAME_FIELD(gfs2_sb, sb_locktable, Superblock, lock_table);
SAME_FIELD(gfs2_sb, sb_uuid, Superblock, uuid);
SAME_SIZE(gfs2_rindex, ResourceGroupIndexEntry);
SAME_FIELD(gfs2_rindex, ri_bitbytes, ResourceGroupIndexEntry, bitmap_bytes);
SAME_SIZE(gfs2_rgrp, ResourceGroup);
SAME_FIELD(gfs2_rgrp, rg_igeneration, ResourceGroup, inode_generation);
SAME_FIELD(gfs2_rgrp, rg_crc, ResourceGroup, crc);
SAME_SIZE(gfs2_quota, Quota);
SAME_SIZE(gfs2_dinode, Dinode);
SAME_FIELD(gfs2_dinode, di_goal_meta, Dinode, goal_meta);
SAME_FIELD(gfs2_dinode, di_flags, Dinode, flags);
SAME_FIELD(gfs2_dinode, di_height, Dinode, height);
SAME_FIELD(gfs2_dinode, di_depth, Dinode, depth);
SAME_FIELD(gfs2_dinode, di_eattr, Dinode, eattr);
SAME_FIELD(gfs2_dinode, di_ctime_nsec, Dinode, ctime_nanoseconds);
SAME_SIZE(gfs2_dirent, Dirent);
SAME_FIELD(gfs2_dirent, de_type, Dirent, type);
SAME_SIZE(gfs2_leaf, Leaf);
SAME_FIELD(gfs2_leaf, lf_next, Leaf, next);
SAME_FIELD(gfs2_leaf, lf_sec, Leaf, seconds);
SAME_SIZE(gfs2_ea_header, ExtendedAttributeHeader);
SAME_SIZE(gfs2_log_header, LogHeader);
SAME_FIELD(gfs2_log_header, lh_crc, LogHeader, crc);
SAME_FIELD(gfs2_log_header, lh_local_dinodes, LogHeader, local_dinodes);
SAME_SIZE(gfs2_log_descriptor, LogDescriptor);
SAME_SIZE(gfs2_inum_range, InumRange);
SAME_SIZE(gfs2_statfs_change, StatfsChange);
SAME_SIZE(gfs2_quota_change, QuotaChange);
