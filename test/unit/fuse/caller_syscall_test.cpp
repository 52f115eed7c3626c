#include "fuse/caller_syscall.h"

#include "test/support/catch.h"

using namespace corral;

TEST_CASE("who waits for an open file description lock is told by its system call") {
  CHECK(is_wait_for_open_file_lock("72 0x3 0x26 0x7ffe8c1ff0d0 0x0 0x0 0x0 0x7ffe8c1ff0c8 0x7f489ef34d1a"));
  CHECK_FALSE(is_wait_for_open_file_lock("72 0x26 0x7 0x7ffe8c1ff0d0 0x0 0x0 0x0 0x7ffe8c1ff0c8 0x7f489ef34d1a"));
  CHECK_FALSE(is_wait_for_open_file_lock("72 0x3 0x126 0x7ffe8c1ff0d0 0x0 0x0 0x0 0x7ffe8c1ff0c8 0x7f489ef34d1a"));
  for (const char* other : {"", "running", "-1 0x7ffe8c1ff0c8 0x7f489ef34d1a", "72", "72 0x3", "72 three 0x26"})
    CHECK_FALSE(is_wait_for_open_file_lock(other));
}

TEST_CASE("a process that is not there waits for nothing") {
  CHECK_FALSE(waits_for_open_file_lock(0));
}
