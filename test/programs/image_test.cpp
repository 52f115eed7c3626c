// corral image, replay and doctor as their users meet them.
#include <filesystem>
#include <fstream>
#include <string>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "test/support/catch.h"
#include "test/support/command.h"
#include "test/support/temporary_file.h"

using namespace corral;
using nlohmann::json;
using test::CommandResult;
using test::run_command;
namespace files = std::filesystem;

namespace {

const std::string kTools = CORRAL_TOOLS_FOLDER;

std::string must_run(const std::string& command) {
  CommandResult result = run_command(command);
  INFO(command << ": " << result.output);
  REQUIRE(result.exit_code == 0);
  return std::move(result.output);
}

/// A new volume, and room for an image of it and what comes of that.
struct Volume {
  Volume() {
    files::resize_file(volume.path(), std::uint64_t{128} << 20);
    must_run(fmt::format("{}/mkfs.corral -q -t my:volume -j 2 -J 8 {}", kTools, volume.path()));
  }
  ~Volume() {
    for (const std::string& path : {image(), copy()})
      files::remove(path);
  }
  std::string image() const { return volume.path() + ".image"; }
  std::string copy() const { return volume.path() + ".copy"; }
  std::string save() const { return fmt::format("{}/corral image save {} {}", kTools, volume.path(), image()); }
  std::string restore() const { return fmt::format("{}/corral image restore {} {}", kTools, image(), copy()); }
  TemporaryFile volume;
};

}  // namespace

TEST_CASE("all that looks at a volume sees the same in what is restored of its image") {
  const Volume one;
  const json saved = json::parse(must_run(one.save() + " --json"));
  CHECK(saved["unreadable"] == 0);
  CHECK(saved["damages"] == 0);
  CHECK(saved["living"].empty());
  CHECK(saved["image_bytes"] == files::file_size(one.image()));
  CHECK_FALSE(files::exists(one.image() + ".partial"));
  const json restored = json::parse(must_run(one.restore() + " --json"));
  CHECK(restored["device_bytes"] == files::file_size(one.copy()));
  must_run("fsck.gfs2 -n " + one.copy());
  must_run(fmt::format("{}/fsck.corral -n {}", kTools, one.copy()));
  for (const std::string look : {"dump --json superblock", "dump --json rgrps", "dump --json area", "df --json -g -f",
                                 "journals list --json", "config get"}) {
    INFO(look);
    CHECK(must_run(fmt::format("{}/corral {} {}", kTools, look, one.volume.path())) ==
          must_run(fmt::format("{}/corral {} {}", kTools, look, one.copy())));
  }
}

TEST_CASE("an image goes through pipes") {
  const Volume one;
  must_run(fmt::format("{0}/corral image save {1} - | {0}/corral image restore - {2}", kTools, one.volume.path(),
                       one.copy()));
  must_run(fmt::format("{}/fsck.corral -n {}", kTools, one.copy()));
  CHECK(run_command(fmt::format("{}/corral image save --json {} - | cat", kTools, one.volume.path()))
            .output.find("standard output takes the image") != std::string::npos);
}

TEST_CASE("what is there is not overwritten unasked, and nothing half done has a name") {
  const Volume one;
  must_run(one.save());
  std::ofstream(one.copy()) << "something";
  const CommandResult refused = run_command(one.restore());
  CHECK(refused.exit_code == 2);
  CHECK(refused.output.find("-y overwrites it") != std::string::npos);
  CHECK(files::file_size(one.copy()) == 9);

  files::resize_file(one.image(), files::file_size(one.image()) - 5);
  const CommandResult cut = run_command(one.restore() + " -y");
  CHECK(cut.exit_code == 8);
  CHECK(cut.output.find("cut off") != std::string::npos);
  CHECK(files::file_size(one.copy()) == 9);
  CHECK_FALSE(files::exists(one.copy() + ".partial"));

  CHECK(run_command(fmt::format("{}/corral image save /no/such/device {}", kTools, one.image() + "2")).exit_code == 8);
  CHECK_FALSE(files::exists(one.image() + "2"));
  CHECK_FALSE(files::exists(one.image() + "2.partial"));
  CHECK(run_command(fmt::format("{}/corral image restore {} {}", kTools, one.volume.path(), one.copy() + "2"))
            .output.find("no metadata image") != std::string::npos);
  CHECK_FALSE(files::exists(one.copy() + "2"));
}

TEST_CASE("neither the volume nor a device is taken for the file to be written") {
  const Volume one;
  const auto bytes = files::file_size(one.volume.path());
  CHECK(run_command(fmt::format("{0}/corral image save {1} {1}", kTools, one.volume.path())).exit_code == 2);
  CHECK(run_command(fmt::format("{}/corral image save {} /dev/null", kTools, one.volume.path())).exit_code == 8);
  CHECK(files::is_character_file("/dev/null"));
  must_run(one.save());
  CHECK(run_command(fmt::format("{}/corral image restore -y {} /dev/null", kTools, one.image())).exit_code == 8);
  CHECK(files::is_character_file("/dev/null"));
  CHECK_FALSE(files::exists("/dev/null.partial"));
  CHECK(files::file_size(one.volume.path()) == bytes);
  must_run(fmt::format("{}/fsck.corral -n {}", kTools, one.volume.path()));

  // Somebody uses it.
  const CommandResult refused = run_command(
      fmt::format("flock -x {1} {0}/corral image restore -y {2} {1}", kTools, one.volume.path(), one.image()));
  CHECK(refused.exit_code == 8);
  CHECK(refused.output.find("in use") != std::string::npos);
}

TEST_CASE("a process that is killed while it writes leaves nothing under the name") {
  const Volume one;
  // The kernel kills it at the limit (SIGXFSZ).
  const CommandResult killed = run_command("(ulimit -c 0; ulimit -f 8; exec " + one.save() + ")");
  INFO(killed.output);
  CHECK(killed.exit_code != 0);
  CHECK_FALSE(files::exists(one.image()));
  must_run(one.save());
  CHECK_FALSE(files::exists(one.image() + ".partial"));
  const CommandResult restore_killed = run_command("(ulimit -c 0; ulimit -f 8; exec " + one.restore() + ")");
  CHECK(restore_killed.exit_code != 0);
  CHECK_FALSE(files::exists(one.copy()));
  must_run(one.restore());
  must_run(fmt::format("{}/fsck.corral -n {}", kTools, one.copy()));
}

TEST_CASE("replay lists nothing for clean journals") {
  const Volume one;
  const json report = json::parse(must_run(fmt::format("{}/corral replay -n -l --json {}", kTools, one.volume.path())));
  REQUIRE(report.size() == 2);
  CHECK(report[0]["clean"] == true);
  CHECK(run_command(fmt::format("{}/corral replay -n --journal 7 {}", kTools, one.volume.path())).exit_code == 8);
}

TEST_CASE("doctor tells what is wrong with a device, and what to do") {
  const Volume one;
  const CommandResult look = run_command(fmt::format("{}/corral doctor --json {}", kTools, one.volume.path()));
  INFO(look.output);
  CHECK((look.exit_code == 0 || look.exit_code == 1 || look.exit_code == 3));
  const json report = json::parse(look.output);
  bool seen = false;
  for (const json& finding : report["findings"]) {
    seen = seen || finding["check"] == "cluster area";
    if (finding["severity"] == "problem" || finding["severity"] == "warning") CHECK(finding["advice"] != "");
    CHECK(finding["check"] != "read only");
    const bool disk = finding["check"] == "device" || finding["check"] == "volume size" ||
                      finding["check"] == "journals" || finding["check"] == "cluster area";
    if (disk) CHECK(finding["severity"] == "good");
  }
  CHECK(seen);

  const CommandResult absent = run_command(fmt::format("{}/corral doctor -q /no/such/device", kTools));
  CHECK(absent.exit_code == 3);
  CHECK(absent.output.find("lsblk") != std::string::npos);

  // The device has shrunk.
  files::resize_file(one.volume.path(), std::uint64_t{100} << 20);
  const CommandResult shrunk = run_command(fmt::format("{}/corral doctor -q {}", kTools, one.volume.path()));
  CHECK(shrunk.exit_code == 3);
  CHECK(shrunk.output.find("volume size") != std::string::npos);
}
