// Volumes whose superblock is gone.
#include "fsck/check.h"
#include "test/support/catch.h"
#include "test/support/file_census.h"
#include "test/support/formatted_volume.h"
#include "test/support/simulated_volume.h"

using namespace corral;
using namespace corral::test;

namespace {

DiskImage without_superblock() {
  DiskImage image = formatted_volume(1024, 24);
  image.write(ondisk::kSuperblockOffsetBytes, std::vector<std::byte>(1024));
  return image;
}

}  // namespace

TEST_CASE("a superblock that is gone is made anew") {
  SimulatedVolume bench(without_superblock());
  const CheckedImage repaired = check_image(bench, true);
  INFO(words_of(repaired));
  REQUIRE(repaired.outcome);
  REQUIRE(repaired.findings.size() == 1);
  CHECK(repaired.findings.front().kind == fsck::Kind::superblock);
  CHECK(words_of(check_image(bench, false)) == "");
}

TEST_CASE("a disk that has become something else is refused by its beginning alone") {
  DiskImage image = without_superblock();
  image.write(512, std::vector<std::byte>(512, std::byte{1}));
  SimulatedVolume bench(image);
  SimulatedFault fault;
  fault.operations = SimulatedFault::reads;
  fault.begin_bytes = 2 * ondisk::kSuperblockOffsetBytes;
  bench.device.add_fault(fault);
  const CheckedImage refused = check_image(bench, true);
  REQUIRE(!refused.outcome);
  CHECK(refused.outcome.error().code() == EINVAL);
  CHECK(refused.outcome.error().message().find("is not only a GFS2 volume") != std::string::npos);
  CHECK((bench.disk.contents() == image));
}
