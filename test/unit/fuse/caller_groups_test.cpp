#include "fuse/caller_groups.h"

#include "test/support/catch.h"

namespace corral {

TEST_CASE("groups of a caller are read from the status of its process") {
  const char* status =
      "Name:\tcat\nUid:\t7\t7\t7\t7\nGid:\t8\t8\t8\t8\nFDSize:\t64\nGroups:\t4 20 61001 \nNStgid:\t9\n";
  for (std::uint32_t gid : {4u, 20u, 61001u})
    CHECK(status_has_group(status, gid));
  for (std::uint32_t gid : {0u, 2u, 6u, 7u, 8u, 9u, 64u, 6100u, 610011u})
    CHECK(!status_has_group(status, gid));
  CHECK(!status_has_group("Name:\tcat\nGroups:\t \nNStgid:\t9\n", 9));
  CHECK(!status_has_group("Name:\tcat\nGroups:", 9));
  CHECK(!status_has_group("Name:\tcat\nGroups:\t99999999999 5", 9));
  CHECK(status_has_group("Name:\tcat\nGroups:\t99999999999 5", 5));
  CHECK(!status_has_group("", 0));
}

TEST_CASE("no group is found for processes that are not there") {
  CHECK(!in_additional_groups({.uid = 1, .gid = 1, .pid = 0, .umask = 0}, 0));
  CHECK(!in_additional_groups({.uid = 1, .gid = 1, .pid = 0x7fffffff, .umask = 0}, 0));
}

}  // namespace corral
