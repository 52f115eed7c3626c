// mkfs.corral as its users meet it.
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include "test/support/catch.h"
#include "test/support/command.h"
#include "test/support/temporary_file.h"

using namespace corral;
using test::CommandResult;
using test::run_command;

namespace {

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
constexpr int kFailure = 1;
constexpr int kUsageError = 2;
const std::string kTable = "-t my-cluster:storage ";

CommandResult mkfs(const std::string& arguments) {
  return run_command(fmt::format("{}/mkfs.corral {}", CORRAL_TOOLS_FOLDER, arguments));
}

/// A sparse file of zeros.
class Image {
 public:
  explicit Image(std::uint64_t bytes = 100 * kMiB) { std::filesystem::resize_file(file_.path(), bytes); }
  const std::string& path() const { return file_.path(); }
  std::uint64_t bytes() const { return std::filesystem::file_size(path()); }

  void write(std::uint64_t offset, const void* data, std::size_t bytes) const {
    const int file = ::open(path().c_str(), O_WRONLY);
    REQUIRE(file >= 0);
    REQUIRE(::pwrite(file, data, bytes, static_cast<off_t>(offset)) == static_cast<ssize_t>(bytes));
    ::close(file);
  }
  std::string read(std::uint64_t offset, std::size_t bytes) const {
    std::string data(bytes, '\0');
    const int file = ::open(path().c_str(), O_RDONLY);
    REQUIRE(::pread(file, data.data(), bytes, static_cast<off_t>(offset)) == static_cast<ssize_t>(bytes));
    ::close(file);
    return data;
  }
  bool is_volume() const { return read(65536, 4) == std::string("\x01\x16\x19\x70", 4); }
  bool is_empty() const { return read(65536, 4) == std::string(4, '\0'); }

 private:
  TemporaryFile file_;
};

void check_refused(const CommandResult& result, int exit_code, const std::string& text) {
  INFO(result.output);
  CHECK(result.exit_code == exit_code);
  CHECK(result.output.starts_with("mkfs.corral: "));
  CHECK(result.output.find(text) != std::string::npos);
}

bool contains(const CommandResult& result, const std::string& text) {
  return result.output.find(text) != std::string::npos;
}

}  // namespace

TEST_CASE("mkfs.corral explains itself") {
  const CommandResult help = mkfs("--help");
  CHECK(help.exit_code == 0);
  for (const char* option :
       {"-b", "-c", "-D", "-J", "-j", "-K", "-O", "-o", "-p", "-q", "-r", "-t", "-U", "-V", "--yes", "block-count"})
    CHECK(contains(help, option));
  CHECK(mkfs("-h").output == help.output);
  CHECK(mkfs("-V").output.starts_with("mkfs.corral "));
  CHECK(mkfs("--version").exit_code == 0);
  const CommandResult extended = mkfs("-o help");
  CHECK(extended.exit_code == 0);
  CHECK(contains(extended, "swidth=BYTES"));
}

TEST_CASE("a new volume is summed up, or not when quiet") {
  const Image image;
  const CommandResult made = mkfs(kTable + "-j 2 -U 1b4e28ba-2fa1-11d2-883f-b9a761bde3fb " + image.path());
  INFO(made.output);
  CHECK(made.exit_code == 0);
  CHECK(image.is_volume());
  for (const char* line :
       {"Block size:                4096\n", "Device size:               100.00 MiB (25600 blocks)\n",
        "Journals:                  2\n", "Journal size:              8 MiB\n",
        "Locking protocol:          \"lock_corral\"\n", "Lock table:                \"my-cluster:storage\"\n",
        "UUID:                      1b4e28ba-2fa1-11d2-883f-b9a761bde3fb\n"})
    CHECK(contains(made, line));
  const CommandResult quiet = mkfs("-q -p lock_nolock " + Image().path());
  CHECK(quiet.exit_code == 0);
  CHECK(quiet.output.empty());
}

TEST_CASE("-D tells where everything lies") {
  const CommandResult made = mkfs(kTable + "-D -j 2 " + Image().path());
  CHECK(contains(made, "Resource groups are not aligned to stripes\n"));
  CHECK(contains(made, "Resource group 0: header 17 + 1 blocks, data 18 + "));
  CHECK(contains(made, "journal1 at inode "));
}

TEST_CASE("every figure on the command line counts") {
  const Image image(300 * kMiB);
  const CommandResult made =
      mkfs("-D -p lock_dlm -t a:b -b 1024 -c 2 -J 9 -j 3 -r 32 -K -o sunit=65536,swidth=131072,format=1801 " +
           image.path() + " 250000");
  INFO(made.output);
  REQUIRE(made.exit_code == 0);
  CHECK(contains(made, "Block size:                1024\n"));
  CHECK(contains(made, "Journal size:              9 MiB\n"));
  CHECK(contains(made, "\"lock_dlm\""));
  CHECK(contains(made, "multiples of 64 blocks, behind whole stripes of 128 blocks"));
  CHECK(image.read(65536 + 24, 4) == std::string("\0\0\x07\x09", 4));
  CHECK(image.read(65536 + 256, 16) != std::string(16, '\0'));
}

TEST_CASE("wrong usage changes nothing") {
  const Image image;
  const std::string& path = image.path();
  check_refused(mkfs(""), kUsageError, "no device given");
  check_refused(mkfs(path), kUsageError, "-t CLUSTER:NAME");
  check_refused(mkfs("-t storage " + path), kUsageError, "one colon");
  check_refused(mkfs("-t a:b -p lock_other " + path), kUsageError, "lock_other");
  check_refused(mkfs("-t a:b -b 3000 " + path), kUsageError, "power of two");
  check_refused(mkfs("-t a:b -J 4 " + path), kUsageError, "from 8 to 1024");
  check_refused(mkfs("-t a:b -U 123 " + path), kUsageError, "no UUID");
  check_refused(mkfs("-t a:b -o what=1 " + path), kUsageError, "'what' is not known");
  check_refused(mkfs("-t a:b -o sunit=4096 " + path), kUsageError, "together");
  check_refused(mkfs("-t a:b -o sunit=4k,swidth=8k " + path), kUsageError, "sunit needs a number, not '4k'");
  check_refused(mkfs("-t a:b -o align=2 " + path), kUsageError, "align must be 0 or 1");
  check_refused(mkfs("-t a:b -o format=1800 " + path), kUsageError, "1801 to 1802");
  check_refused(mkfs("-t a:b -o test_topology=0:512 " + path), kUsageError, "five numbers");
  for (const char* arguments : {"-j many", "-x", "-j 2 -j 3"})
    CHECK(mkfs(kTable + arguments + (" " + path)).exit_code == kUsageError);
  CHECK(mkfs(kTable + path + " 1 2").exit_code == kUsageError);
  CHECK(image.is_empty());
}

TEST_CASE("a device that does not suit is refused") {
  const Image image(10 * kMiB);
  check_refused(mkfs(kTable + image.path()), kFailure, "at least ");
  check_refused(mkfs(kTable + "-j 60 " + image.path()), kFailure, "60 journals of 8 MiB");
  check_refused(mkfs(kTable + image.path() + " 1000000"), kFailure, "more than the device holds");
  check_refused(mkfs(kTable + "-b 1024 -o test_topology=0:4096:0:0:4096 " + image.path()), kFailure, "choose -b 4096");
  check_refused(mkfs(kTable + "/nonexistent"), kFailure, "/nonexistent: No such file");
  check_refused(mkfs(kTable + "/tmp"), kFailure, "/tmp");
  CHECK(image.is_empty());
}

TEST_CASE("the least size that is told does") {
  const CommandResult refused = mkfs(kTable + "-j 3 " + Image(kMiB).path());
  const std::size_t place = refused.output.find("at least ");
  REQUIRE(place != std::string::npos);
  CHECK(mkfs(kTable + "-j 3 " + Image(std::stoull(refused.output.substr(place + 9))).path()).exit_code == 0);
}

TEST_CASE("another filesystem is kept without -O and gone with it") {
  const Image image;
  REQUIRE(run_command("mkfs.ext4 -q -L precious " + image.path()).exit_code == 0);
  check_refused(mkfs(kTable + image.path()), kFailure, "contains ext4 (label: precious); -O overwrites it");
  CHECK(run_command("blkid -p " + image.path()).output.find("ext4") != std::string::npos);
  CHECK(mkfs(kTable + "-q -O " + image.path()).output.empty());
  const std::string after = run_command("blkid -p " + image.path()).output;
  CHECK(after.find("TYPE=\"gfs2\"") != std::string::npos);
  CHECK(after.find("LABEL=\"my-cluster:storage\"") != std::string::npos);
  check_refused(mkfs("-t other:name " + image.path()), kFailure, "contains gfs2 (label: my-cluster:storage)");
  CHECK(mkfs("-q --yes -t other:name " + image.path()).exit_code == 0);
}

TEST_CASE("signatures where a volume does not write are erased too") {
  const Image image;
  // A partition table of one entry, and the superblock that Linux RAID 1.0 keeps near the end of its members.
  const std::uint8_t entry[16] = {0x80, 0, 2, 0, 0x83, 0, 0, 0, 0, 8, 0, 0, 0, 0, 1, 0};
  image.write(446, entry, sizeof(entry));
  image.write(510, "\x55\xAA", 2);
  const std::uint64_t raid_sector = (image.bytes() / 512 - 16) & ~std::uint64_t{7};
  std::vector<std::uint8_t> raid(256);
  const std::uint32_t magic_and_version[2] = {0xa92b4efc, 1};
  std::memcpy(raid.data(), magic_and_version, sizeof(magic_and_version));
  std::memcpy(raid.data() + 144, &raid_sector, sizeof(raid_sector));
  image.write(raid_sector * 512, raid.data(), raid.size());

  const CommandResult refused = mkfs(kTable + image.path());
  check_refused(refused, kFailure, "linux_raid_member");
  CHECK(contains(refused, "a partition table (dos)"));
  CHECK(mkfs(kTable + "-O -K " + image.path()).exit_code == 0);
  const std::string after = run_command("blkid -p " + image.path()).output;
  CHECK(after.find("TYPE=\"gfs2\"") != std::string::npos);
  CHECK(image.read(raid_sector * 512, 4) == std::string(4, '\0'));
}

TEST_CASE("on a terminal the user is asked") {
  const Image image;
  REQUIRE(run_command("mkfs.ext4 -q " + image.path()).exit_code == 0);
  auto answer = [&](const std::string& text) {
    return run_command(fmt::format("printf '{}\\n' | script -qec '{}/mkfs.corral {} {}' /dev/null", text,
                                   CORRAL_TOOLS_FOLDER, kTable, image.path()));
  };
  for (const char* text : {"n", "", "what"}) {
    const CommandResult kept = answer(text);
    INFO(kept.output);
    CHECK(contains(kept, "contains ext4"));
    CHECK(contains(kept, "nothing was changed"));
    CHECK(kept.exit_code == kFailure);
    CHECK(!image.is_volume());
  }
  const CommandResult made = answer("y");
  INFO(made.output);
  CHECK(made.exit_code == 0);
  CHECK(contains(made, "Writing: 100%"));
  CHECK(contains(made, "Journals:"));
  CHECK(image.is_volume());
}

TEST_CASE("an image that another program has locked is refused") {
  const Image image;
  const CommandResult refused =
      run_command(fmt::format("flock {0} {1}/mkfs.corral {2} {0}", image.path(), CORRAL_TOOLS_FOLDER, kTable));
  check_refused(refused, kFailure, "is in use");
  CHECK(image.is_empty());
}

TEST_CASE("a block device is formatted, and refused while it is mounted", "[root]") {
  if (::geteuid() != 0 || run_command("losetup -f").exit_code != 0) {
    std::puts("SKIPPED: loop devices need root");
    return;
  }
  const Image image;
  const CommandResult attached = run_command("losetup --sector-size 4096 -f --show " + image.path());
  INFO(attached.output);
  REQUIRE(attached.exit_code == 0);
  const std::string device = attached.output.substr(0, attached.output.find('\n'));
  check_refused(mkfs(kTable + "-b 1024 " + device), kFailure, "choose -b 4096");
  CHECK(mkfs(kTable + "-q " + device).exit_code == 0);
  CHECK(image.is_volume());
  check_refused(mkfs(kTable + "-O " + image.path()), kFailure, "attached to " + device);

  char folder[] = "/tmp/corral-test-XXXXXX";
  REQUIRE(::mkdtemp(folder) != nullptr);
  CHECK(run_command("mkfs.ext4 -q -F " + device).exit_code == 0);
  if (run_command(fmt::format("mount {} {}", device, folder)).exit_code == 0) {
    check_refused(mkfs(kTable + "-O " + device), kFailure, fmt::format("mounted on {}", folder));
    CHECK(run_command(fmt::format("umount {}", folder)).exit_code == 0);
  }
  ::rmdir(folder);
  CHECK(run_command("losetup -d " + device).exit_code == 0);
}
