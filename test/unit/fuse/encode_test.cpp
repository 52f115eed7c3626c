#include "fuse/encode.h"

#include <cerrno>
#include <cstring>

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "test/support/catch.h"

namespace corral {
namespace {

Attributes some_attributes() {
  Attributes attributes;
  attributes.inode = BlockNo(4711);
  attributes.generation = 99;
  attributes.mode = S_IFREG | 04755;
  attributes.nlink = 3;
  attributes.uid = 1000;
  attributes.gid = 50;
  attributes.size_bytes = 123456;
  attributes.blocks_512 = 248;
  attributes.atime = {-5, 1};
  attributes.mtime = {1'700'000'000, 999'999'999};
  attributes.ctime = {5'000'000'000, 3};
  return attributes;
}

TEST_CASE("of a disk that fails, however it fails, applications are told EIO") {
  for (int code : {EIO, EBADE, ETIMEDOUT, ECONNABORTED, ESHUTDOWN, EAGAIN})
    CHECK(encode_error(Error(code, "the disk", ErrorKind::device)) == EIO);
  for (int code : {ENOSPC, EROFS, EOPNOTSUPP})
    CHECK(encode_error(Error(code, "the disk", ErrorKind::device)) == code);
  for (int code : {ENOENT, ETIMEDOUT, EAGAIN, EDEADLK})
    CHECK(encode_error(Error(code)) == code);
  CHECK(encode_error(Error(ENOSYS)) == EOPNOTSUPP);
  CHECK(encode_error(Error(0)) == EIO);
  CHECK(encode_error(Error(4711)) == EIO);
}

TEST_CASE("attributes in the kernel's terms") {
  fuse_attr attr = encode_attributes(some_attributes(), 4096);
  CHECK(attr.ino == 4711);
  CHECK(attr.size == 123456);
  CHECK(attr.blocks == 248);
  CHECK(static_cast<std::int64_t>(attr.atime) == -5);
  CHECK(attr.atimensec == 1);
  CHECK(attr.mtime == 1'700'000'000);
  CHECK(attr.mtimensec == 999'999'999);
  CHECK(attr.ctime == 5'000'000'000);
  CHECK(attr.mode == (S_IFREG | 04755));
  CHECK(attr.nlink == 3);
  CHECK(attr.uid == 1000);
  CHECK(attr.gid == 50);
  CHECK(attr.blksize == 4096);
  CHECK(encode_attributes(some_attributes(), 512).blksize == 4096);
}

TEST_CASE("the root is node 1 of generation 0") {
  NodeNumbers numbers(BlockNo(300));
  CHECK(numbers.to_node(BlockNo(300)) == FUSE_ROOT_ID);
  CHECK(numbers.to_inode(FUSE_ROOT_ID) == BlockNo(300));
  CHECK(numbers.to_node(BlockNo(301)) == 301);
  CHECK(numbers.to_inode(301) == BlockNo(301));

  Validity validity{.names_seconds = 10, .attributes_seconds = 20};
  Entry entry{some_attributes()};
  fuse_entry_out out = encode_entry(entry, numbers, 4096, validity);
  CHECK(out.nodeid == 4711);
  CHECK(out.generation == 99);
  CHECK(out.entry_valid == 10);
  CHECK(out.attr_valid == 20);
  entry.attributes.inode = BlockNo(300);
  out = encode_entry(entry, numbers, 4096, validity);
  CHECK(out.nodeid == FUSE_ROOT_ID);
  CHECK(out.generation == 0);
  CHECK(out.attr.ino == 300);
  CHECK(encode_absent(validity).nodeid == 0);
  CHECK(encode_absent(validity).entry_valid == 10);
}

TEST_CASE("device numbers survive the kernel's packing") {
  for (auto [major, minor] :
       {std::pair{0u, 0u}, {8u, 1u}, {253u, 255u}, {7u, 256u}, {4095u, 1048575u}, {259u, 70000u}}) {
    DeviceNumber back = decode_device(encode_device(major, minor));
    CHECK(back.major == major);
    CHECK(back.minor == minor);
  }
  CHECK(encode_device(8, 1) == 0x801);
  CHECK(encode_device(1, 256) == 0x100100);
}

TEST_CASE("what a SETATTR changes") {
  fuse_setattr_in in{};
  WallTime now{77, 88};
  AttributeChange none = decode_change(in, now);
  CHECK(!none.mode);
  CHECK(!none.uid);
  CHECK(!none.gid);
  CHECK(!none.size_bytes);
  CHECK(!none.atime);
  CHECK(!none.mtime);
  CHECK(!none.ctime);
  CHECK(!none.kill_set_ids);

  in.valid = FATTR_MODE | FATTR_UID | FATTR_GID | FATTR_SIZE | FATTR_ATIME | FATTR_ATIME_NOW | FATTR_MTIME |
             FATTR_CTIME | FATTR_KILL_SUIDGID;
  in.mode = S_IFREG | 01755;
  in.uid = 5;
  in.gid = 6;
  in.size = 7;
  in.atime = 1;
  in.mtime = static_cast<std::uint64_t>(-2);
  in.mtimensec = 3;
  in.ctime = 4;
  AttributeChange all = decode_change(in, now);
  CHECK(all.mode == 01755u);
  CHECK(all.uid == 5u);
  CHECK(all.gid == 6u);
  CHECK(all.size_bytes == 7u);
  CHECK(all.atime == now);
  CHECK(all.mtime == WallTime{-2, 3});
  CHECK(all.ctime == WallTime{4, 0});
  CHECK(all.kill_set_ids);

  in.valid = FATTR_MTIME | FATTR_MTIME_NOW;
  AttributeChange touch = decode_change(in, now);
  CHECK(touch.mtime == now);
  CHECK(touch.ctime == now);
  CHECK(!touch.chosen_times);
  in.valid = FATTR_MTIME;
  CHECK(decode_change(in, now).chosen_times);
  CHECK(!decode_change(in, now).ctime);
  in.valid = FATTR_MTIME | FATTR_CTIME;
  CHECK(!decode_change(in, now).chosen_times);
}

TEST_CASE("flags of FSGETXATTR and FSSETXATTR") {
  CHECK(encode_extended_flags(0) == 0);
  CHECK(encode_extended_flags(FS_IMMUTABLE_FL | FS_NOATIME_FL | FS_JOURNAL_DATA_FL) ==
        (FS_XFLAG_IMMUTABLE | FS_XFLAG_NOATIME));
  fsxattr wanted{};
  wanted.fsx_xflags = FS_XFLAG_APPEND | FS_XFLAG_SYNC;
  CHECK(decode_extended_flags(wanted, FS_IMMUTABLE_FL | FS_JOURNAL_DATA_FL) ==
        std::uint32_t{FS_APPEND_FL | FS_SYNC_FL | FS_JOURNAL_DATA_FL});
  wanted.fsx_xflags = FS_XFLAG_PROJINHERIT;
  CHECK(decode_extended_flags(wanted, 0).error().code() == EOPNOTSUPP);
  wanted.fsx_xflags = 0;
  wanted.fsx_projid = 1;
  CHECK(decode_extended_flags(wanted, 0).error().code() == EOPNOTSUPP);
}

TEST_CASE("a listing takes what fits, each record aligned to 8 bytes") {
  DirectoryListing listing(100);
  CHECK(listing.add("abc", BlockNo(5), 8, 17));         // 24 + 3, padded to 32
  CHECK(listing.add("abcdefgh", BlockNo(6), 4, 18));    // 32
  CHECK(!listing.add("abcdefghi", BlockNo(7), 4, 19));  // 40 do not fit into 36
  CHECK(listing.add("x", BlockNo(8), 4, 20));
  REQUIRE(listing.bytes().size() == 96);
  fuse_dirent dirent{};
  std::memcpy(&dirent, listing.bytes().data() + 32, FUSE_NAME_OFFSET);
  CHECK(dirent.ino == 6);
  CHECK(dirent.off == 18);
  CHECK(dirent.namelen == 8);
  CHECK(dirent.type == 4);
  CHECK(std::memcmp(listing.bytes().data() + 32 + FUSE_NAME_OFFSET, "abcdefgh", 8) == 0);
}

TEST_CASE("a listing with attributes") {
  DirectoryListing listing(4096);
  fuse_entry_out entry{};
  entry.nodeid = 5;
  CHECK(listing.add_plus("name", BlockNo(5), 8, &entry, 17));
  CHECK(listing.add_plus("..", BlockNo(6), 4, nullptr, 18));
  std::size_t record = sizeof(fuse_entry_out) + 32;
  REQUIRE(listing.bytes().size() == 2 * record);
  fuse_entry_out out{};
  std::memcpy(&out, listing.bytes().data(), sizeof(out));
  CHECK(out.nodeid == 5);
  std::memcpy(&out, listing.bytes().data() + record, sizeof(out));
  CHECK(out.nodeid == 0);
}

}  // namespace
}  // namespace corral
