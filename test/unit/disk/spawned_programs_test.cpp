#include "disk/spawned_programs.h"

#include <csignal>
#include <filesystem>
#include <fstream>

#include "test/support/catch.h"
#include "test/support/must.h"

using namespace corral;
using namespace corral::test;
using namespace std::chrono_literals;
namespace files = std::filesystem;

namespace {

/// A folder with shell scripts.
class Scripts {
 public:
  Scripts() {
    std::string pattern = files::temp_directory_path() / "corral-programs-XXXXXX";
    REQUIRE(mkdtemp(pattern.data()) != nullptr);
    folder = pattern;
  }
  ~Scripts() { files::remove_all(folder); }
  Scripts(const Scripts&) = delete;
  Scripts& operator=(const Scripts&) = delete;

  std::string add(const std::string& name, const std::string& body) const {
    const files::path path = folder / name;
    std::ofstream(path) << "#!/bin/sh\n" << body << "\n";
    files::permissions(path, files::perms::owner_all);
    return path;
  }

  files::path folder;
};

bool is_alive(const std::string& pid) {
  return kill(std::stoi(pid), 0) == 0;
}

std::string contents_of(const files::path& path) {
  std::ifstream file(path);
  std::string text;
  std::getline(file, text);
  return text;
}

}  // namespace

TEST_CASE("a program reads what it is given, and its words and its end are told") {
  Scripts scripts;
  EventLoop loop;
  SpawnedPrograms programs(loop);
  const std::string path = scripts.add("echo", "cat; echo to error >&2; echo \"path $PATH home <$HOME>\"; exit 3");
  const ProgramRun run = must(loop.run_until_done(programs.run(path, "action=off\n", 10s)));
  CHECK(run.exit_status == 3);
  CHECK(run.output == "action=off\nto error\npath /usr/sbin:/usr/bin:/sbin:/bin home <>\n");
  // It reads nothing of what it is given, and says more than is kept.
  const std::string loud = scripts.add("loud", "head -c 100000 /dev/zero | tr '\\0' x");
  CHECK(must(loop.run_until_done(programs.run(loud, std::string(4096, 'y'), 10s))).output.size() == 4096);
  // It closes its output long before it ends.
  const std::string quiet = scripts.add("quiet", "exec >&- 2>&-; exec sleep 0.2");
  CHECK(must(loop.run_until_done(programs.run(quiet, "", 10s))).exit_status == 0);
}

TEST_CASE("what takes too long is killed, with all that it started") {
  Scripts scripts;
  EventLoop loop;
  SpawnedPrograms programs(loop);
  const std::string pid_file = scripts.folder / "pid";
  const std::string path = scripts.add("slow", "sleep 1000 & echo $! >" + pid_file + "; wait");
  const auto late = loop.run_until_done(programs.run(path, "", 500ms));
  REQUIRE_FALSE(late);
  CHECK(late.error().code() == ETIMEDOUT);
  // The grandchild is reaped by somebody else; it is gone or about to be.
  const std::string pid = contents_of(pid_file);
  REQUIRE_FALSE(pid.empty());
  for (int looks = 0; looks < 500 && is_alive(pid) && contents_of("/proc/" + pid + "/cmdline") != ""; ++looks)
    loop.run_until_done([](Executor& executor) -> Task<void> { co_await executor.sleep_for(10ms); }(loop.executor()));
  CHECK(contents_of("/proc/" + pid + "/cmdline") == "");
}

TEST_CASE("an end by a signal and a program that is not there are errors") {
  Scripts scripts;
  EventLoop loop;
  SpawnedPrograms programs(loop, {scripts.folder / "nowhere", scripts.folder});
  CHECK(loop.run_until_done(programs.run(scripts.add("dies", "kill -9 $$"), "", 10s)).error().code() == EIO);
  CHECK(loop.run_until_done(programs.run(scripts.folder / "none", "", 10s)).error().code() == ENOENT);
  CHECK(must(loop.run_until_done(programs.find("dies"))) == scripts.folder / "dies");
  std::ofstream(scripts.folder / "plain") << "no program";
  for (const std::string& name :
       std::vector<std::string>{"none", "plain", "../" + scripts.folder.filename().string() + "/dies", ""})
    CHECK(loop.run_until_done(programs.find(name)).error().code() == ENOENT);
}
