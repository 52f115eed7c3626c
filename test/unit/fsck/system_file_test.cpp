// System files that are lost and made anew.
#include <algorithm>

#include "fsck/check.h"
#include "offline/volume_reader.h"
#include "test/support/catch.h"
#include "test/support/file_census.h"
#include "test/support/formatted_volume.h"
#include "test/support/must.h"
#include "test/support/simulated_volume.h"

using namespace corral;
using namespace corral::test;

namespace {

constexpr std::uint32_t kBlockSize = 1024;

/// Zeros the dinode of a file below the master directory.
DiskImage without_inode(DiskImage image, std::string path) {
  SimulatedVolume bench(image);
  VolumeReader reader = must(bench.run(VolumeReader::open(bench.device)));
  const OfflineInode inode = must(bench.run(reader.system_file(std::move(path))));
  image.write(reader.geometry().offset_bytes(inode.number()), std::vector<std::byte>(kBlockSize));
  return image;
}

}  // namespace

TEST_CASE("a directory of the volume's own that is made anew has all its links") {
  for (const std::string name : {"jindex", "per_node"}) {
    INFO(name);
    SimulatedVolume bench(without_inode(formatted_volume(kBlockSize, 24), name));
    const CheckedImage repaired = check_image(bench, true);
    INFO(words_of(repaired));
    REQUIRE(repaired.outcome);
    CHECK(repaired.report.remaining == 0);
    auto found = [&](fsck::Kind kind) { return std::ranges::count(repaired.findings, kind, &fsck::Finding::kind); };
    CHECK(found(fsck::Kind::system_file) > 0);
    CHECK(found(fsck::Kind::link_count) == 0);
    CHECK(words_of(check_image(bench, false)) == "");
  }
}
