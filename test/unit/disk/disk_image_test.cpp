#include "disk/disk_image.h"

#include <cstring>
#include <vector>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/random.h"
#include "test/support/catch.h"
#include "test/support/temporary_file.h"

using namespace corral;

namespace {
std::vector<std::byte> read_all(const DiskImage& image) {
  std::vector<std::byte> bytes(image.size_bytes(), std::byte{0xFF});
  image.read(0, bytes);
  return bytes;
}
}  // namespace

TEST_CASE("an image behaves as plain bytes do, and its copies are independent") {
  constexpr std::uint64_t kBytes = 3 << 20;
  Random random(1);
  DiskImage image(kBytes);
  std::vector<std::byte> model(kBytes);
  DiskImage snapshot = image;
  std::vector<std::byte> snapshot_model = model;
  for (int step = 0; step < 400; ++step) {
    std::uint64_t offset = random.below(kBytes);
    std::uint64_t length = random.below(std::min<std::uint64_t>(kBytes - offset, step % 20 == 0 ? kBytes : 9000) + 1);
    auto at = model.begin() + static_cast<std::ptrdiff_t>(offset);
    auto value = static_cast<std::byte>(random.below(3));
    if (random.chance(1, 2)) {
      std::vector<std::byte> data(length, value);
      image.write(offset, data);
    } else {
      image.fill(offset, length, value);
    }
    std::fill(at, at + static_cast<std::ptrdiff_t>(length), value);
    if (step == 200) {
      snapshot = image;
      snapshot_model = model;
    }
  }
  REQUIRE(read_all(image) == model);
  REQUIRE(read_all(snapshot) == snapshot_model);
  REQUIRE_FALSE(image == snapshot);
  snapshot.write(0, read_all(image));
  REQUIRE(image == snapshot);
  REQUIRE_FALSE(image == DiskImage(kBytes + 512));
}

TEST_CASE("zeros take no memory and clearing gives it back") {
  DiskImage image(std::uint64_t{16} << 40);
  std::vector<std::byte> zeros(1 << 20);
  image.write(1 << 20, zeros);
  REQUIRE(image.stored_bytes() == 0);
  std::vector<std::byte> ones(1 << 20, std::byte{1});
  image.write((std::uint64_t{9} << 40) + 512, ones);
  REQUIRE(image.stored_bytes() == (1 << 20) + 4096);
  image.fill(0, image.size_bytes(), std::byte{0});
  REQUIRE(image.stored_bytes() == 0);
  REQUIRE(image == DiskImage(image.size_bytes()));
}

TEST_CASE("pages that hold zeros equal pages that hold nothing") {
  DiskImage image(8192);
  std::vector<std::byte> one(512, std::byte{1});
  image.write(0, one);
  image.fill(0, 512, std::byte{0});
  REQUIRE(image.stored_bytes() == 4096);
  REQUIRE(image == DiskImage(8192));
}

TEST_CASE("images are saved to and loaded from sparse files") {
  TemporaryFile file;
  DiskImage image((std::uint64_t{1} << 30) + 1536);
  Random random(2);
  std::vector<std::byte> data(5000);
  for (std::byte& byte : data)
    byte = static_cast<std::byte>(random.next());
  image.write(12'345'678, data);
  image.write(image.size_bytes() - data.size(), data);
  REQUIRE(image.save(file.path()).has_value());
  struct stat status{};
  REQUIRE(stat(file.path().c_str(), &status) == 0);
  REQUIRE(static_cast<std::uint64_t>(status.st_size) == image.size_bytes());
  REQUIRE(status.st_blocks * 512 < 1 << 20);
  auto loaded = DiskImage::load(file.path());
  REQUIRE(loaded.has_value());
  REQUIRE(*loaded == image);

  // Saving replaces all of what was there.
  REQUIRE(DiskImage(4096).save(file.path()).has_value());
  REQUIRE(*DiskImage::load(file.path()) == DiskImage(4096));
}

TEST_CASE("load and save name the file that they cannot open") {
  auto loaded = DiskImage::load("/nonexistent/volume.img");
  REQUIRE(loaded.error().code() == ENOENT);
  REQUIRE(loaded.error().message() == "/nonexistent/volume.img: No such file or directory");
  REQUIRE(DiskImage(512).save("/nonexistent/volume.img").error().code() == ENOENT);
}
