#include "ondisk/geometry.h"

#include "test/support/catch.h"

using corral::BlockNo;
using corral::ondisk::Geometry;

TEST_CASE("figures of a 4 KiB block") {
  Geometry geometry(4096);
  CHECK(geometry.block_shift() == 12);
  CHECK(geometry.superblock() == BlockNo(16));
  CHECK(geometry.offset_bytes(BlockNo(3)) == 12288);
  CHECK(geometry.blocks_for(0) == 0);
  CHECK(geometry.blocks_for(4096) == 1);
  CHECK(geometry.blocks_for(4097) == 2);
  CHECK(geometry.dinode_pointers() == 483);
  CHECK(geometry.indirect_pointers() == 509);
  CHECK(geometry.stuffed_bytes() == 3864);
  CHECK(geometry.quota_changes_per_block() == 254);
  CHECK(geometry.first_hash_pointers() == 256);
  CHECK(geometry.first_hash_depth() == 8);
  CHECK(geometry.leaf_bytes() == 3992);
}

TEST_CASE("a directory's table takes as many blocks as its bytes fill") {
  Geometry geometry(512);
  CHECK(geometry.directory_data_bytes() == 488);
  CHECK(geometry.directory_data_blocks(1) == 1);
  CHECK(geometry.directory_data_blocks(488) == 1);
  CHECK(geometry.directory_data_blocks(489) == 2);
}

TEST_CASE("a resource group is as long as its bitmap needs") {
  Geometry geometry(512);
  CHECK(geometry.rgrp_bitmap_bytes(1) == 384);
  CHECK(geometry.rgrp_bitmap_bytes(3) == 384 + 2 * 488);
  CHECK(geometry.rgrp_length(384) == 1);
  CHECK(geometry.rgrp_length(385) == 2);
  CHECK(geometry.rgrp_length(384 + 488) == 2);
  CHECK(geometry.rgrp_length(384 + 488 + 1) == 3);
}

TEST_CASE("the greatest height is the first that reaches every file offset") {
  CHECK(Geometry(512).max_height() == 10);
  CHECK(Geometry(1024).max_height() == 8);
  CHECK(Geometry(2048).max_height() == 7);
  CHECK(Geometry(4096).max_height() == 6);
}

TEST_CASE("a tree is as high as its blocks need") {
  Geometry geometry(4096);
  CHECK(geometry.height_for_blocks(1) == 1);
  CHECK(geometry.height_for_blocks(483) == 1);
  CHECK(geometry.height_for_blocks(484) == 2);
  CHECK(geometry.height_for_blocks(483 * 509) == 2);
  CHECK(geometry.height_for_blocks(483 * 509 + 1) == 3);
  CHECK(geometry.height_for_blocks((std::uint64_t{1} << 63) >> 12) == geometry.max_height());
}
