// corral dump, df, journals and tune beside gfs2-utils, on one volume.
#include <filesystem>
#include <map>
#include <sstream>
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

namespace {

std::string must_run(const std::string& command) {
  CommandResult result = run_command(command);
  INFO(command << ": " << result.output);
  REQUIRE(result.exit_code == 0);
  return std::move(result.output);
}

struct DumpVolume {
  DumpVolume() {
    std::filesystem::resize_file(file.path(), std::uint64_t{256} << 20);
    must_run(fmt::format("{}/mkfs.corral -q -t my:volume -j 2 -J 8 {}", CORRAL_TOOLS_FOLDER, file.path()));
  }
  json ours(const std::string& arguments) const {
    return json::parse(must_run(fmt::format("{}/corral {}", CORRAL_TOOLS_FOLDER, arguments)));
  }
  json dump(const std::string& what, const std::string& which = "") const {
    return ours(fmt::format("dump --json {} {} {}", what, file.path(), which));
  }
  /// The fields that gfs2_edit prints of a structure, as text, the first of each name.
  std::map<std::string, std::string> edit(const std::string& what) const {
    std::map<std::string, std::string> fields;
    std::istringstream lines(must_run(fmt::format("gfs2_edit -p {} {}", what, file.path())));
    for (std::string line; std::getline(lines, line);) {
      std::istringstream words(line);
      std::string name;
      std::string value;
      if (line.starts_with("  ") && words >> name >> value && name.find('_') != std::string::npos)
        fields.emplace(name, value);
    }
    return fields;
  }
  TemporaryFile file;
};

/// gfs2_edit writes "(hex)" or "(decimal)" behind some values; flags are in hexadecimal here, there not always.
bool same(const json& ours, const std::string& theirs) {
  const std::string value = theirs.substr(0, theirs.find('('));
  if (!ours.is_string()) return ours.dump() == value;
  const auto& text = ours.get_ref<const std::string&>();
  return text == value || (text.starts_with("0x") && std::stoull(text, nullptr, 0) == std::stoull(value, nullptr, 0));
}

/// How many fields both know; a difference fails.
std::size_t compare(const json& ours, const std::map<std::string, std::string>& theirs) {
  std::size_t compared = 0;
  for (const auto& [name, value] : theirs) {
    if (!ours.contains(name)) continue;
    INFO(name << ": " << ours[name].dump() << ", gfs2_edit: " << value);
    CHECK(same(ours[name], value));
    ++compared;
  }
  return compared;
}

}  // namespace

TEST_CASE("what corral dump shows is what gfs2_edit shows", "[interop]") {
  const DumpVolume volume;
  const json superblock = volume.dump("superblock");
  CHECK(compare(superblock, volume.edit("sb")) == 9);
  CHECK(compare(volume.dump("inode", "master"), volume.edit("master")) == 24);
  CHECK(compare(volume.dump("inode", "/"), volume.edit("root")) == 24);
  const json groups = volume.dump("rgrps");
  for (std::size_t i = 0; i < groups.size(); ++i)
    CHECK(compare(groups[i], volume.edit(fmt::format("\"rg {}\"", i))) == 12);
  const json journal = volume.dump("journal", "1");
  CHECK(journal["clean"] == true);
  REQUIRE(journal["log"].size() == 1);
  const json& header = journal["log"][0];
  CHECK(compare(header, volume.edit(fmt::format("{}", header["block"].get<std::uint64_t>()))) == 18);
  const json block = volume.dump("block", fmt::format("{}", superblock["block"].get<std::uint64_t>()));
  CHECK(block["sb_locktable"] == "my:volume");
  CHECK(block["bytes"].get<std::string>().starts_with("000000  01 16 19 70 00 00 00 01"));
  const json area = volume.dump("area");
  CHECK(area["headers"].size() == 2);
  CHECK(area["views"][0]["number"] == 0);
  CHECK(area.dump().find("secret") == std::string::npos);
  json names;
  for (const json& entry : volume.dump("directory", "master")["entries"])
    names.push_back(entry["name"]);
  CHECK(names == json{".", "..", "jindex", "per_node", "inum", "statfs", "rindex", "quota", "corral_cluster"});
}

TEST_CASE("space and journals of a volume that is not mounted", "[interop]") {
  const DumpVolume volume;
  const json space = volume.ours(fmt::format("df --json -g -f {}", volume.file.path()));
  CHECK(space["free"].get<std::uint64_t>() + space["used"].get<std::uint64_t>() == space["blocks"]);
  std::uint64_t blocks = 0;
  for (const json& group : space["groups"]) {
    blocks += group["blocks"].get<std::uint64_t>();
    CHECK(group["free_runs"] == (group["free"] == 0 ? 0 : 1));
    CHECK(group["longest_free_run"] == group["free"]);
  }
  CHECK(blocks == space["blocks"]);
  const json journals = volume.ours(fmt::format("journals list --json {}", volume.file.path()));
  REQUIRE(journals.size() == 2);
  CHECK(journals[1]["state"] == "clean");
}

TEST_CASE("tune changes name and UUID, and leaves a volume that fsck.gfs2 finds sound", "[interop]") {
  const DumpVolume volume;
  const std::string corral = fmt::format("{}/corral ", CORRAL_TOOLS_FOLDER);
  const std::string uuid = "01234567-89ab-cdef-0123-456789abcdef";
  must_run(fmt::format("{} tune -t other:name -U {} {}", corral, uuid, volume.file.path()));
  const json superblock = volume.dump("superblock");
  CHECK(superblock["sb_locktable"] == "other:name");
  CHECK(superblock["sb_uuid"] == uuid);
  CHECK(superblock["sb_lockproto"] == "lock_corral");
  must_run("fsck.gfs2 -n " + volume.file.path());
  CHECK(run_command(fmt::format("{} tune -p lock_dlm {}", corral, volume.file.path())).exit_code == 8);
  CHECK(run_command(fmt::format("{} tune -t nonsense {}", corral, volume.file.path())).exit_code == 8);
  CHECK(run_command(fmt::format("{} tune -U nonsense {}", corral, volume.file.path())).exit_code == 2);
  CHECK(volume.dump("superblock") == superblock);
}
