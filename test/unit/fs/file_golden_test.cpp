// Files that the kernel wrote: contents, data segments and block counts as the kernel reported them.
#include <algorithm>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <unistd.h>

#include "test/support/golden_disk.h"
#include "test/support/manifest.h"
#include "test/support/mounted_volume.h"
#include "test/support/sha256.h"

using namespace corral;
using namespace corral::test;

namespace {

using Segments = std::vector<std::pair<std::uint64_t, std::uint64_t>>;  // offset, length

Segments segments(MountedVolume& volume, BlockNo file) {
  Segments found;
  for (std::uint64_t offset = 0;;) {
    auto data = volume.run(volume.operations().seek(file, offset, SEEK_DATA));
    if (!data) {
      REQUIRE(data.error().code() == ENXIO);
      return found;
    }
    std::uint64_t hole = must(volume.run(volume.operations().seek(file, *data, SEEK_HOLE)));
    found.emplace_back(*data, hole - *data);
    offset = hole;
  }
}

void check_file(MountedVolume& volume, BlockNo file, const nlohmann::json& line) {
  const auto size = line.at("size").get<std::uint64_t>();
  const Attributes attributes = must(volume.run(volume.operations().get_attributes(file)));
  REQUIRE(attributes.size_bytes == size);
  REQUIRE(attributes.blocks_512 == line.at("blocks").get<std::uint64_t>());
  Segments expected;
  if (line.contains("data"))
    expected = line.at("data").get<Segments>();
  else if (size > 0)
    expected = {{0, size}};
  const Segments found = segments(volume, file);
  REQUIRE(found == expected);
  std::vector<std::byte> contents;
  if (line.contains("sha256")) {
    contents = volume.read(file, 0, size);
    REQUIRE(sha256(contents) == line.at("sha256").get<std::string>());
  } else {
    for (auto [offset, length] : found) {
      auto part = volume.read(file, offset, length);
      contents.insert(contents.end(), part.begin(), part.end());
    }
    REQUIRE(sha256(contents) == line.at("sha256_data").get<std::string>());
  }
}

/// Returns how many files there were.
std::size_t check_volume(const std::string& image, const std::string& list) {
  auto contents = golden_disk(image);
  if (!contents) return 0;
  SimulatedDisk disk(*contents);
  MountOptions options;
  options.lock_protocol = "lock_nolock";
  MountedVolume volume(disk, options);
  std::size_t files = 0;
  std::set<std::uint64_t> seen;
  for (const auto& [path, line] : read_manifest(list)) {
    if (line.value("type", "") != "file" || line.contains("error")) continue;
    const auto number = line.at("ino").get<std::uint64_t>();
    if (!seen.insert(number).second) continue;
    INFO(image << ": " << path << ", inode " << number);
    BlockNo file = must(volume.run(volume.operations().lookup_handle(BlockNo(number), {}))).attributes.inode;
    check_file(volume, file, line);
    volume.operations().forget(file, 1);
    ++files;
  }
  volume.unmount();
  return files;
}

}  // namespace

TEST_CASE("files on volumes of the kernel read as the kernel read them", "[golden]") {
  if (!golden_folder()) return;
  CHECK(check_volume("basic-4k/volume.img", "basic-4k/manifest.jsonl") > 100);
  CHECK(check_volume("basic-1k/volume.img", "basic-1k/manifest.jsonl") > 100);
}

TEST_CASE("files read after the replay of the kernel's journals as after the kernel's own replay", "[golden]") {
  if (!golden_folder()) return;
  for (const std::string name : {"create", "revoke", "jdata", "wrap", "killed", "cluster"}) {
    const std::string volume = "dirty-journal-" + name;
    CHECK(check_volume(volume + "/dirty.img", volume + "/after-replay.manifest.jsonl") > 10);
  }
}
