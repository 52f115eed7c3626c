// What mkfs.corral makes, judged by fsck.gfs2 and by the kernel's own GFS2.
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <list>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "test/support/catch.h"
#include "test/support/command.h"
#include "test/support/temporary_file.h"

using namespace corral;
using test::CommandResult;
using test::run_command;

namespace {

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;
constexpr std::uint64_t kTiB = std::uint64_t{1} << 40;

struct Shape {
  std::uint32_t block_size;
  std::uint32_t journals;
  std::uint32_t journal_mebibytes;
  std::uint64_t device_bytes;
  std::string options{};
  std::uint64_t blocks = 0;  ///< 0: as many as the device holds

  std::string arguments() const {
    return fmt::format("-b {} -j {} -J {} {}", block_size, journals, journal_mebibytes, options);
  }
};

/// In memory where there is room: images are large, and what they hold is gone with the test anyway.
std::string image_folder() {
  const std::string memory = "/dev/shm";
  std::error_code error;
  const auto space = std::filesystem::space(memory, error);
  return !error && space.available >= 6 * kGiB ? memory : std::filesystem::temp_directory_path().string();
}

/// A sparse image file, formatted.
class Image {
 public:
  explicit Image(const Shape& shape, const std::string& protocol = "lock_nolock") {
    std::filesystem::resize_file(file_.path(), shape.device_bytes);
    const auto made =
        run_command(fmt::format("{}/mkfs.corral -q -p {} -t test:volume {} {} {}", CORRAL_TOOLS_FOLDER, protocol,
                                shape.arguments(), path(), shape.blocks == 0 ? "" : fmt::format("{}", shape.blocks)));
    INFO(shape.arguments() << ": " << made.output);
    REQUIRE(made.exit_code == 0);
    CHECK(made.output.empty());
  }
  const std::string& path() const { return file_.path(); }

 private:
  TemporaryFile file_{image_folder()};
};

/// The lines of fsck.gfs2 that say more than which step it is at.
std::vector<std::string> complaints_in(const std::string& output) {
  std::vector<std::string> complaints;
  std::istringstream lines(output);
  for (std::string line; std::getline(lines, line);) {
    constexpr std::string_view kProgress = "percent complete.";
    if (const std::size_t progress = line.rfind(kProgress); progress != line.npos)
      line.erase(0, progress + kProgress.size());
    std::erase(line, '\r');
    const bool quiet = line.empty() || line == "Initializing fsck" || line == "Validating resource group index." ||
                       line == "Level 1 resource group check: Checking if all rgrp and rindex values are good." ||
                       line == "(level 1 passed)" || line == "Reconciling bitmaps." || line == "fsck.gfs2 complete" ||
                       line.starts_with("Starting ") || line.find(" completed in ") != line.npos;
    if (!quiet) complaints.push_back(line);
  }
  return complaints;
}

void check_clean(const Image& image, const std::string& what) {
  const CommandResult result = run_command("fsck.gfs2 -n " + image.path());
  INFO(what << ": " << result.output.substr(0, 2000));
  CHECK(result.exit_code == 0);
  CHECK(complaints_in(result.output) == std::vector<std::string>{});
}

/// Runs one of the scripts of this folder in User Mode Linux; nothing, and said so, where that is not installed.
std::optional<CommandResult> run_uml(const std::string& options, const std::string& script) {
  constexpr int kSkipped = 77;
  CommandResult result =
      run_command(fmt::format("{0}/test/interop/uml {1} {0}/test/interop/{2}", CORRAL_SOURCE_FOLDER, options, script));
  if (result.exit_code != kSkipped) return result;
  std::puts(result.output.c_str());
  return std::nullopt;
}

/// Every pair of block size, number and size of journals and size of device occurs, as far as there is room for it.
const std::vector<Shape> kShapes = {
    {512, 1, 8, 64 * kMiB},   {512, 2, 32, kGiB},         {512, 5, 128, kGiB},     {512, 16, 8, 256 * kGiB},
    {1024, 1, 32, 64 * kMiB}, {1024, 2, 128, 512 * kGiB}, {1024, 5, 8, 64 * kMiB}, {1024, 16, 32, kGiB},
    {2048, 1, 128, kGiB},     {2048, 2, 8, 64 * kMiB},    {2048, 5, 32, kGiB},     {2048, 16, 8, kTiB},
    {4096, 1, 128, kGiB},     {4096, 2, 32, 2 * kTiB},    {4096, 5, 8, 64 * kMiB}, {4096, 16, 32, kGiB},
};

/// ext4, which may be under the image file, ends one block before 16 TiB.
constexpr std::uint64_t kHugeBytes = 16 * kTiB - 4096;

}  // namespace

TEST_CASE("fsck.gfs2 finds nothing to say about new volumes", "[interop]") {
  for (const Shape& shape : kShapes)
    check_clean(Image(shape), fmt::format("{} on {} bytes", shape.arguments(), shape.device_bytes));
}

TEST_CASE("fsck.gfs2 finds nothing to say about unusual options", "[interop]") {
  for (const char* options :
       {"-r 32", "-r 2048", "-c 64", "-o format=1801", "-o sunit=65536,swidth=262144", "-o align=0",
        "-o test_topology=4096:512:131072:1048576:4096", "-K", "-U 1b4e28ba-2fa1-11d2-883f-b9a761bde3fb"})
    check_clean(Image({4096, 2, 16, 3 * kGiB, options}), options);
  check_clean(Image({512, 60, 8, kGiB}), "60 journals");
  check_clean(Image({4096, 2, 16, kGiB}, "lock_corral"), "lock_corral");
  check_clean(Image({4096, 2, 16, kGiB}, "lock_dlm"), "lock_dlm");
}

TEST_CASE("fsck.gfs2 finds nothing to say about 16 TiB", "[interop]") {
  const Image image({4096, 2, 8, kHugeBytes});
  CHECK(run_command("stat -c '%b' " + image.path()).output.size() <= std::string("4194304\n").size());
  check_clean(image, "16 TiB");
}

TEST_CASE("the kernel mounts new volumes, which are sound afterwards", "[interop][uml]") {
  constexpr std::size_t kHugeVolume = 4;
  std::list<Image> images;
  std::string disks;
  for (const Shape& shape :
       {Shape{512, 5, 8, 256 * kMiB}, Shape{1024, 2, 32, kGiB}, Shape{2048, 16, 8, kGiB}, Shape{4096, 1, 128, kGiB},
        Shape{4096, 2, 8, kHugeBytes}, Shape{4096, 2, 8, kGiB, "-o format=1801"}, Shape{4096, 2, 8, kGiB, "-r 32"}}) {
    images.emplace_back(shape);
    disks += " -d " + images.back().path();
  }
  const auto result = run_uml("-m 768M -t 1500" + disks, fmt::format("use-volumes {}", images.size()));
  if (!result) return;
  INFO(result->output);
  REQUIRE(result->exit_code == 0);
  std::size_t number = 0;
  for (const Image& image : images) {
    CHECK(result->output.find(fmt::format("volume {}: used\n", number)) != std::string::npos);
    // That of 16 TiB takes fsck.gfs2 minutes.
    if (number != kHugeVolume) check_clean(image, fmt::format("volume {} after the kernel used it", number));
    ++number;
  }
}

TEST_CASE("volumes grow and get more journals as those of mkfs.gfs2 do", "[interop][uml]") {
  std::list<Image> images;
  std::string disks;
  // Half of each device is left over.
  for (const Shape& shape : {Shape{4096, 1, 8, 400 * kMiB, "", 51200}, Shape{1024, 3, 8, 400 * kMiB, "-r 32", 204800},
                             Shape{4096, 1, 8, 400 * kMiB, "-o swidth=262144,sunit=65536", 51200}}) {
    images.emplace_back(shape);
    disks += " -d " + images.back().path();
  }
  const auto result = run_uml("-t 1500" + disks, fmt::format("grow-volumes {}", images.size()));
  if (!result) return;
  INFO(result->output);
  REQUIRE(result->exit_code == 0);
  for (const Image& image : images)
    check_clean(image, "grown");
}

namespace {

/// Devices of which the volume takes a part. Blocks of 512 bytes soon need an index that is more than its inode.
const std::vector<Shape> kSmallerThanDevice{{4096, 1, 8, 400 * kMiB, "", 51200},
                                            {512, 2, 8, 400 * kMiB, "-r 32", 204800},
                                            {1024, 3, 8, 400 * kMiB, "-r 32", 102400},
                                            {4096, 1, 8, 400 * kMiB, "-o swidth=262144,sunit=65536", 51200}};

void grow(const Image& image, const std::string& expected) {
  const auto grown = run_command(fmt::format("{}/corral grow {}", CORRAL_TOOLS_FOLDER, image.path()));
  INFO(grown.output);
  CHECK(grown.exit_code == 0);
  CHECK(grown.output.find(expected) != std::string::npos);
  check_clean(image, expected);
}

}  // namespace

TEST_CASE("fsck.gfs2 finds nothing to say about volumes that corral grow has made larger", "[interop]") {
  for (const Shape& shape : kSmallerThanDevice) {
    const Image image(shape);
    grow(image, "resource groups added");
    grow(image, "nothing to add");
    std::filesystem::resize_file(image.path(), kGiB);
    grow(image, "resource groups added");
  }
}

TEST_CASE("the kernel mounts no volume that is ours", "[interop][uml]") {
  const Image image({4096, 2, 8, kGiB}, "lock_corral");
  const auto result = run_uml("-t 600 -d " + image.path(), "refuse-volume");
  if (!result) return;
  INFO(result->output);
  CHECK(result->exit_code == 0);
}
