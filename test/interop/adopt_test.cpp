// The cluster area under the eyes of gfs2-utils and of the kernel's own GFS2.
#include <cstdio>
#include <filesystem>
#include <string>

#include <fmt/format.h>

#include "test/support/catch.h"
#include "test/support/command.h"
#include "test/support/temporary_file.h"

using namespace corral;
using test::CommandResult;
using test::run_command;

namespace {

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;

void must_run(const std::string& command) {
  const CommandResult result = run_command(command);
  INFO(command << ": " << result.output);
  REQUIRE(result.exit_code == 0);
}

std::string tool(const std::string& arguments) {
  return fmt::format("{}/{}", CORRAL_TOOLS_FOLDER, arguments);
}

}  // namespace

TEST_CASE("the kernel uses volumes with a cluster area, and ones that were adopted and released", "[interop][uml]") {
  const TemporaryFile with_area;
  const TemporaryFile released;
  for (const TemporaryFile* file : {&with_area, &released})
    std::filesystem::resize_file(file->path(), 512 * kMiB);
  must_run(tool("mkfs.corral -q -t my:volume -j 2 -J 8 " + with_area.path()));
  must_run("tunegfs2 -o lockproto=lock_nolock " + with_area.path());
  must_run("mkfs.gfs2 -q -O -p lock_dlm -t my:volume -j 2 -J 8 " + released.path());
  must_run(tool("corral adopt " + released.path()));
  must_run("fsck.gfs2 -n " + released.path());
  must_run(tool("corral release -p lock_nolock " + released.path()));
  const CommandResult used =
      run_command(fmt::format("{0}/test/interop/uml -t 600 -d {1} -d {2} {0}/test/interop/use-volumes 2",
                              CORRAL_SOURCE_FOLDER, with_area.path(), released.path()));
  constexpr int kSkipped = 77;
  if (used.exit_code == kSkipped) return std::puts(used.output.c_str()), void();
  INFO(used.output);
  REQUIRE(used.exit_code == 0);
  for (const TemporaryFile* file : {&with_area, &released})
    must_run("fsck.gfs2 -n " + file->path());
  must_run(tool("corral config get " + with_area.path()));
  // What the kernel left can be adopted.
  must_run(tool("corral adopt " + released.path()));
  must_run("fsck.gfs2 -n " + released.path());
}
