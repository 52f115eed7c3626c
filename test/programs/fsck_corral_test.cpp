// fsck.corral as its users meet it: options, exit codes, refusals.
#include <filesystem>
#include <string>

#include <fcntl.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <sys/file.h>
#include <unistd.h>

#include "test/support/catch.h"
#include "test/support/command.h"
#include "test/support/temporary_file.h"

using namespace corral;
using test::CommandResult;
using test::run_command;

namespace {

constexpr std::uint64_t kMultihostFormatOffset = 65536 + 28;

CommandResult fsck(const std::string& arguments) {
  return run_command(fmt::format("{}/fsck.corral {}", CORRAL_TOOLS_FOLDER, arguments));
}

class FormattedImage {
 public:
  FormattedImage() {
    std::filesystem::resize_file(file_.path(), std::uint64_t{64} << 20);
    REQUIRE(run_command(fmt::format("{}/mkfs.corral -q -p lock_nolock -j 1 -J 8 {}", CORRAL_TOOLS_FOLDER, path()))
                .exit_code == 0);
  }
  const std::string& path() const { return file_.path(); }
  void damage() const {
    const int file = ::open(path().c_str(), O_WRONLY);
    REQUIRE(::pwrite(file, "bad!", 4, kMultihostFormatOffset) == 4);
    ::close(file);
  }

 private:
  TemporaryFile file_;
};

}  // namespace

TEST_CASE("a sound volume is met with silence and 0") {
  const FormattedImage image;
  for (const std::string options : {"-n ", "-y ", "-p ", "-a -f ", "-n -q "}) {
    const CommandResult result = fsck(options + image.path());
    INFO(options);
    CHECK(result.exit_code == 0);
    CHECK(result.output.empty());
  }
}

TEST_CASE("damage gives 4 when it is only looked at, 1 when it is repaired") {
  const FormattedImage image;
  image.damage();
  const CommandResult told = fsck("-n " + image.path());
  CHECK(told.exit_code == 4);
  CHECK(told.output.find("superblock: format") != std::string::npos);
  const CommandResult report = fsck("-n --json " + image.path());
  CHECK(report.exit_code == 4);
  const nlohmann::json json = nlohmann::json::parse(report.output);
  CHECK(json.at("found") == 1);
  CHECK(json.at("findings").at(0).at("kind") == "superblock");
  CHECK(fsck("-y -q " + image.path()).exit_code == 1);
  CHECK(fsck("-n " + image.path()).exit_code == 0);
}

TEST_CASE("what cannot be done gives 8, a wrong command line 16") {
  const FormattedImage image;
  CHECK(fsck("-n /no/such/device").exit_code == 8);
  CHECK(fsck("-n -y " + image.path()).exit_code == 16);
  CHECK(fsck("--no-such-option " + image.path()).exit_code == 16);
  CHECK(fsck("").exit_code == 16);
  CHECK(fsck("-V").exit_code == 0);
  // Nobody to ask.
  CHECK(fsck(image.path()).exit_code == 16);
  const int file = ::open(image.path().c_str(), O_RDWR | O_CLOEXEC);
  REQUIRE(::flock(file, LOCK_EX | LOCK_NB) == 0);
  const CommandResult refused = fsck("-n " + image.path());
  CHECK(refused.exit_code == 8);
  CHECK(refused.output.find("in use") != std::string::npos);
  ::close(file);
  std::filesystem::resize_file(image.path(), 0);
  std::filesystem::resize_file(image.path(), std::uint64_t{64} << 20);
  CHECK(fsck("-y " + image.path()).exit_code == 8);
}
