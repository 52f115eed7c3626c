#include "fuse/mount_arguments.h"

#include <sys/mount.h>

#include "test/support/catch.h"

namespace corral {
namespace {

MountArguments parse(std::string_view options) {
  MountArguments arguments;
  Result<> result = arguments.add_options(options);
  INFO(options);
  REQUIRE(result);
  arguments.finish();
  return arguments;
}

std::string refusal(std::string_view options) {
  MountArguments arguments;
  Result<> result = arguments.add_options(options);
  INFO(options);
  REQUIRE(!result);
  CHECK(result.error().code() == EINVAL);
  return result.error().message();
}

TEST_CASE("no options give GFS2's defaults") {
  MountArguments arguments = parse("");
  CHECK(arguments.kernel_flags == 0);
  CHECK(!arguments.filesystem.read_only);
  CHECK(arguments.filesystem.acl);
  CHECK(arguments.rejoin);
  CHECK(arguments.filesystem.data == DataMode::ordered);
  CHECK(arguments.filesystem.quota == QuotaMode::off);
  CHECK(arguments.filesystem.atime == AtimePolicy::relatime);
  CHECK(arguments.filesystem.errors == ErrorPolicy::withdraw);
  CHECK(arguments.filesystem.cache_bytes > 0);
  CHECK(arguments.filesystem.cache_bytes <= 1u << 30);
  CHECK(!arguments.for_filesystem);
}

TEST_CASE("generic flags go to the kernel, the later one wins") {
  CHECK(parse("ro,nosuid,nodev,noexec,sync,dirsync").kernel_flags ==
        (MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_SYNCHRONOUS | MS_DIRSYNC));
  CHECK(parse("ro,rw,nosuid,suid,nodev,dev,noexec,exec,sync,async").kernel_flags == 0);
  CHECK(parse("rw,ro").filesystem.read_only);
  CHECK(!parse("ro,rw").filesystem.read_only);
}

TEST_CASE("atime options exclude each other") {
  CHECK(parse("noatime").filesystem.atime == AtimePolicy::noatime);
  CHECK(parse("noatime,strictatime").filesystem.atime == AtimePolicy::strictatime);
  CHECK(parse("noatime,strictatime").kernel_flags == MS_STRICTATIME);
  CHECK(parse("strictatime,relatime").filesystem.atime == AtimePolicy::relatime);
  CHECK(parse("lazytime").filesystem.lazytime);
  CHECK(!parse("lazytime,nolazytime").filesystem.lazytime);
}

TEST_CASE("the filesystem's options") {
  MountArguments arguments = parse(
      "noacl,data=writeback,discard,commit=5,quota=account,statfs_percent=10,errors=panic,debug,lockproto=lock_nolock,"
      "locktable=a:b,cache=64M,writeback_cache,spin=70,norejoin");
  CHECK(!arguments.filesystem.acl);
  CHECK(arguments.filesystem.data == DataMode::writeback);
  CHECK(arguments.filesystem.discard);
  CHECK(arguments.filesystem.commit_interval == std::chrono::seconds(5));
  CHECK(arguments.filesystem.quota == QuotaMode::account);
  CHECK(arguments.filesystem.statfs_percent == 10);
  CHECK(arguments.filesystem.errors == ErrorPolicy::panic);
  CHECK(arguments.filesystem.debug);
  CHECK(arguments.filesystem.lock_protocol == "lock_nolock");
  CHECK(arguments.filesystem.lock_table == "a:b");
  CHECK(arguments.filesystem.cache_bytes == 64u << 20);
  CHECK(arguments.writeback_cache);
  CHECK_FALSE(arguments.rejoin);
  CHECK(arguments.spin == std::chrono::microseconds(70));
  CHECK(arguments.for_filesystem);
  CHECK_FALSE(arguments.metrics);
  CHECK(parse("metrics=127.0.0.1:9101").metrics->host == "127.0.0.1");
  CHECK(parse("metrics=127.0.0.1:9101").metrics->port == "9101");
  CHECK(parse("quota").filesystem.quota == QuotaMode::on);
  CHECK(parse("quota=quiet").filesystem.quota == QuotaMode::on);
  CHECK(parse("quota=on,noquota").filesystem.quota == QuotaMode::off);
  CHECK(parse("cache=5000000").filesystem.cache_bytes == 5000000);
}

TEST_CASE("a spectator is read-only") {
  MountArguments arguments = parse("spectator,rw");
  CHECK(arguments.filesystem.spectator);
  CHECK(arguments.filesystem.read_only);
  CHECK(arguments.kernel_flags == MS_RDONLY);
}

TEST_CASE("options for fstab, systemd and udev are accepted") {
  MountArguments arguments =
      parse("defaults,noauto,nofail,_netdev,x-systemd.automount,X-mount.mkdir=0755,user,comment=hi");
  CHECK(arguments.kernel_flags == 0);
  CHECK(!arguments.for_filesystem);
  CHECK(arguments.without_effect.empty());
}

TEST_CASE("options of GFS2 that mean nothing here are accepted and named") {
  CHECK(parse("localflocks,rgrplvb,statfs_quantum=30").without_effect ==
        std::vector<std::string>{"localflocks", "rgrplvb", "statfs_quantum"});
}

TEST_CASE("security contexts keep their commas") {
  CHECK(parse("context=\"system_u:object_r:tmp_t:s0:c1,c2\",ro").security_options ==
        "context=\"system_u:object_r:tmp_t:s0:c1,c2\"");
}

TEST_CASE("wrong options are named with what would be right") {
  CHECK(refusal("rw,frobnicate") == "unknown mount option \"frobnicate\"");
  CHECK(refusal("frob=1") == "unknown mount option \"frob=1\"");
  CHECK(refusal("data=journal") == "option data=journal: the value must be one of ordered, writeback");
  CHECK(refusal("commit=abc") == "option commit=abc: the value must be a number from 1 to 3600");
  CHECK(refusal("commit=0") == "option commit=0: the value must be a number from 1 to 3600");
  CHECK(refusal("commit=-1") == "option commit=-1: the value must be a number from 1 to 3600");
  CHECK(refusal("statfs_percent=101") == "option statfs_percent=101: the value must be a number from 0 to 100");
  CHECK(refusal("cache=1K") ==
        "option cache=1K: the value must be a size of 4M or more, in bytes or with K, M, G or T");
  CHECK(refusal("cache=99999999999999999999T").find("cache=") != std::string::npos);
  CHECK(refusal("cache=99999999T").find("cache=") != std::string::npos);
  CHECK(refusal("lockproto=") == "option lockproto: a value is missing");
  CHECK(refusal("ro=1") == "unknown mount option \"ro=1\"");
  CHECK(refusal("data") == "unknown mount option \"data\"");
  CHECK(refusal("nobarrier") == "unknown mount option \"nobarrier\"");
}

TEST_CASE("remount is told apart") {
  MountArguments arguments = parse("remount,ro");
  CHECK(arguments.remount);
  CHECK(!arguments.for_filesystem);
  CHECK(arguments.kernel_flags == MS_RDONLY);
}

}  // namespace
}  // namespace corral
