#include <vector>

#include "fs/inode.h"
#include "test/support/catch.h"
#include "test/support/fsck_gfs2.h"
#include "test/support/mounted_volume.h"

using namespace corral;
using namespace corral::test;

namespace {
constexpr int kFiles = 3000;

/// Room for far fewer inodes than kFiles.
MountOptions small_cache() {
  MountOptions options;
  options.cache_bytes = 1 << 20;
  return options;
}

std::string name_of(int number) {
  return fmt::format("file{}", number);
}

Task<bool> reclaims_ended(Filesystem& filesystem) {
  co_await filesystem.reclaim_finished();
  co_return true;
}

std::vector<BlockNo> create_all(MountedVolume& mount) {
  std::vector<BlockNo> files;
  for (int number = 0; number < kFiles; ++number)
    files.push_back(mount.create(name_of(number)));
  return files;
}
}  // namespace

TEST_CASE("inodes that only the kernel knows rest where memory is short, and wake when they are used") {
  SimulatedDisk disk(formatted_volume(4096, 64));
  MountedVolume mount(disk, small_cache());
  InodeTable& table = mount.filesystem->inodes();
  std::vector<BlockNo> files = create_all(mount);
  REQUIRE(table.most_awake() < kFiles / 2);
  REQUIRE(table.size() <= table.most_awake() + 1);
  REQUIRE(table.size() + table.resting() >= kFiles);
  for (BlockNo file : files)
    REQUIRE(must(mount.run(mount.operations().get_attributes(file))).nlink == 1);
  REQUIRE(table.size() <= table.most_awake() + 1);
  for (BlockNo file : files)
    mount.operations().forget(file, 1);
  REQUIRE(table.resting() == 0);
  REQUIRE(table.size() < 10);
  mount.unmount();
}

TEST_CASE("the kernel's references outlast the rest: an inode without links is freed when the last is gone") {
  SimulatedDisk disk(formatted_volume(4096, 64));
  MountedVolume mount(disk, small_cache());
  InodeTable& table = mount.filesystem->inodes();
  std::vector<BlockNo> files = create_all(mount);
  REQUIRE(table.resting() > 0);
  const BlockNo first = files.front();
  REQUIRE(mount.find(name_of(0)) == first);  // a second reference
  must(mount.run(mount.operations().unlink(mount.filesystem->root(), name_of(0))));
  for (int number = 1; number < kFiles; ++number)  // whatever is able to rest does
    REQUIRE(must(mount.run(mount.operations().get_attributes(files[static_cast<std::size_t>(number)]))).nlink == 1);
  mount.operations().forget(first, 1);
  REQUIRE(mount.run(reclaims_ended(*mount.filesystem)));
  REQUIRE(must(mount.run(mount.operations().get_attributes(first))).nlink == 0);
  mount.operations().forget(first, 1);
  REQUIRE(mount.run(reclaims_ended(*mount.filesystem)));
  REQUIRE(mount.run(mount.operations().get_attributes(first)).error().code() == ESTALE);
  mount.unmount();
  REQUIRE(fsck_gfs2(disk.contents()).empty());
}
