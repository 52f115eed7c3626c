#include "disk/file_life_locks.h"

#include <csignal>

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file_descriptor.h"
#include "test/support/catch.h"
#include "test/support/must.h"
#include "test/support/temporary_file.h"

using namespace corral;
using namespace corral::test;

TEST_CASE("a mark on a file goes with the process that made it") {
  TemporaryFile file;
  FileDescriptor own(open(file.path().c_str(), O_RDWR | O_CLOEXEC));
  auto here = FileLifeLocks::of(own.get(), file.path());
  REQUIRE(here);
  int ready[2];
  REQUIRE(pipe(ready) == 0);
  const pid_t child = fork();
  if (child == 0) {
    FileDescriptor its(open(file.path().c_str(), O_RDWR | O_CLOEXEC));
    auto there = FileLifeLocks::of(its.get(), file.path());
    const char taken = there && there->take(42) ? 'y' : 'n';
    if (write(ready[1], &taken, 1) != 1) _exit(1);
    pause();
    _exit(0);
  }
  char taken = 0;
  REQUIRE(read(ready[0], &taken, 1) == 1);
  REQUIRE(taken == 'y');
  CHECK(must(here->taken_by_another(42)));
  CHECK_FALSE(must(here->taken_by_another(43)));
  CHECK(here->take(42).error().code() == EBUSY);
  kill(child, SIGKILL);
  REQUIRE(waitpid(child, nullptr, 0) == child);
  CHECK_FALSE(must(here->taken_by_another(42)));
  must(here->take(42));
  // One's own is not another's.
  CHECK_FALSE(must(here->taken_by_another(42)));
  must(here->give_up(42));
  close(ready[0]);
  close(ready[1]);
}

TEST_CASE("only files of this host's own have marks") {
  FileDescriptor null(open("/dev/null", O_RDWR | O_CLOEXEC));
  CHECK_FALSE(FileLifeLocks::of(null.get(), "/dev/null"));
  FileDescriptor process(open("/proc/self/status", O_RDONLY | O_CLOEXEC));
  CHECK_FALSE(FileLifeLocks::of(process.get(), "/proc/self/status"));
}
