#include "fs/acl.h"

#include <initializer_list>

#include <endian.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>

#include "test/support/catch.h"

namespace corral {
namespace {

struct Raw {
  std::uint16_t tag;
  std::uint16_t permissions;
  std::uint32_t id = 0xFFFFFFFF;
};

std::vector<std::byte> encode(std::initializer_list<Raw> entries, std::uint32_t version = 2) {
  std::vector<std::byte> bytes;
  auto add = [&bytes](std::uint64_t value, int size) {
    for (int i = 0; i < size; ++i)
      bytes.push_back(static_cast<std::byte>(value >> (8 * i)));
  };
  add(version, 4);
  for (const Raw& entry : entries) {
    add(entry.tag, 2);
    add(entry.permissions, 2);
    add(entry.id, 4);
  }
  return bytes;
}

int refusal(std::initializer_list<Raw> entries, std::uint32_t version = 2) {
  auto acl = Acl::parse(encode(entries, version));
  return acl ? 0 : acl.error().code();
}

Acl parse(std::initializer_list<Raw> entries) {
  auto acl = Acl::parse(encode(entries));
  REQUIRE(acl);
  return *acl;
}

const std::initializer_list<Raw> kMinimal = {{ACL_USER_OBJ, 7}, {ACL_GROUP_OBJ, 5}, {ACL_OTHER, 1}};
const std::initializer_list<Raw> kExtended = {{ACL_USER_OBJ, 6},  {ACL_USER, 7, 1000}, {ACL_USER, 4, 1001},
                                              {ACL_GROUP_OBJ, 5}, {ACL_GROUP, 6, 50},  {ACL_MASK, 4},
                                              {ACL_OTHER, 0}};

std::uint16_t permissions(const Acl& acl, std::uint16_t tag) {
  for (const AclEntry& entry : acl.entries())
    if (entry.tag == tag) return entry.permissions;
  FAIL("no entry of tag " << tag);
  return 0;
}

TEST_CASE("an ACL comes back as it was given") {
  for (auto entries : {kMinimal, kExtended}) {
    auto bytes = encode(entries);
    auto acl = Acl::parse(bytes);
    REQUIRE(acl);
    CHECK(acl->serialize() == bytes);
  }
}

TEST_CASE("ids of entries that have none are stored as undefined") {
  auto acl = Acl::parse(encode({{ACL_USER_OBJ, 7, 0}, {ACL_GROUP_OBJ, 5, 3}, {ACL_OTHER, 1, 4}}));
  REQUIRE(acl);
  CHECK(acl->serialize() == encode(kMinimal));
}

TEST_CASE("malformed ACLs are refused as the kernel refuses them") {
  CHECK(refusal(kMinimal) == 0);
  CHECK(refusal(kExtended) == 0);
  CHECK(refusal(kMinimal, 1) == EOPNOTSUPP);
  CHECK(refusal({}) == EINVAL);
  CHECK(refusal({{ACL_USER_OBJ, 7}, {ACL_GROUP_OBJ, 7}}) == EINVAL);
  CHECK(refusal({{ACL_USER_OBJ, 7}, {ACL_OTHER, 7}}) == EINVAL);
  CHECK(refusal({{ACL_GROUP_OBJ, 7}, {ACL_OTHER, 7}}) == EINVAL);
  CHECK(refusal({{ACL_GROUP_OBJ, 5}, {ACL_USER_OBJ, 7}, {ACL_OTHER, 1}}) == EINVAL);
  CHECK(refusal({{ACL_USER_OBJ, 7}, {ACL_USER_OBJ, 7}, {ACL_GROUP_OBJ, 5}, {ACL_OTHER, 1}}) == EINVAL);
  CHECK(refusal({{ACL_USER_OBJ, 7}, {ACL_GROUP_OBJ, 5}, {ACL_OTHER, 1}, {ACL_OTHER, 1}}) == EINVAL);
  // A mask is required where somebody is named, and allowed where nobody is.
  CHECK(refusal({{ACL_USER_OBJ, 7}, {ACL_USER, 7, 1}, {ACL_GROUP_OBJ, 5}, {ACL_OTHER, 1}}) == EINVAL);
  CHECK(refusal({{ACL_USER_OBJ, 7}, {ACL_GROUP_OBJ, 5}, {ACL_GROUP, 7, 1}, {ACL_OTHER, 1}}) == EINVAL);
  CHECK(refusal({{ACL_USER_OBJ, 7}, {ACL_GROUP_OBJ, 5}, {ACL_MASK, 7}, {ACL_OTHER, 1}}) == 0);
  CHECK(refusal({{ACL_USER_OBJ, 8}, {ACL_GROUP_OBJ, 5}, {ACL_OTHER, 1}}) == EINVAL);
  CHECK(refusal({{ACL_USER_OBJ, 7}, {0x40, 7}, {ACL_GROUP_OBJ, 5}, {ACL_OTHER, 1}}) == EINVAL);
  CHECK(refusal({{ACL_USER_OBJ, 7}, {ACL_USER, 7}, {ACL_GROUP_OBJ, 5}, {ACL_MASK, 7}, {ACL_OTHER, 1}}) == EINVAL);
  // Named users in any order, even twice: the kernel takes them.
  CHECK(refusal({{ACL_USER_OBJ, 7},
                 {ACL_USER, 7, 9},
                 {ACL_USER, 7, 3},
                 {ACL_USER, 7, 3},
                 {ACL_GROUP_OBJ, 5},
                 {ACL_MASK, 7},
                 {ACL_OTHER, 1}}) == 0);
}

TEST_CASE("attributes of a wrong size are refused") {
  auto bytes = encode(kMinimal);
  bytes.pop_back();
  CHECK(Acl::parse(bytes).error().code() == EINVAL);
  CHECK(Acl::parse({}).error().code() == EINVAL);
  CHECK(Acl::has_no_entries(encode({})));
  CHECK(!Acl::has_no_entries(encode(kMinimal)));
}

TEST_CASE("the mode an ACL stands for") {
  auto minimal = parse(kMinimal).equivalent_mode();
  CHECK(minimal.permissions == 0751);
  CHECK(minimal.is_just_mode);
  auto extended = parse(kExtended).equivalent_mode();
  CHECK(extended.permissions == 0640);
  CHECK(!extended.is_just_mode);
  auto masked = parse({{ACL_USER_OBJ, 7}, {ACL_GROUP_OBJ, 7}, {ACL_MASK, 1}, {ACL_OTHER, 0}}).equivalent_mode();
  CHECK(masked.permissions == 0710);
  CHECK(!masked.is_just_mode);
}

TEST_CASE("chmod changes the mask where there is one, else the group") {
  Acl extended = parse(kExtended).with_mode(0100731);
  CHECK(permissions(extended, ACL_USER_OBJ) == 7);
  CHECK(permissions(extended, ACL_MASK) == 3);
  CHECK(permissions(extended, ACL_GROUP_OBJ) == 5);
  CHECK(permissions(extended, ACL_OTHER) == 1);
  Acl minimal = parse(kMinimal).with_mode(0426);
  CHECK(permissions(minimal, ACL_USER_OBJ) == 4);
  CHECK(permissions(minimal, ACL_GROUP_OBJ) == 2);
  CHECK(permissions(minimal, ACL_OTHER) == 6);
}

TEST_CASE("a new inode gets what both its mode and the default ACL allow") {
  AclInheritance plain = parse(kMinimal).inherit(0100666);
  CHECK(plain.mode == 0100640);
  CHECK(!plain.access);

  AclInheritance extended = parse(kExtended).inherit(0102777);
  CHECK(extended.mode == 0102640);
  REQUIRE(extended.access);
  CHECK(permissions(*extended.access, ACL_USER_OBJ) == 6);
  CHECK(permissions(*extended.access, ACL_USER) == 7);
  CHECK(permissions(*extended.access, ACL_GROUP_OBJ) == 5);
  CHECK(permissions(*extended.access, ACL_MASK) == 4);
  CHECK(permissions(*extended.access, ACL_OTHER) == 0);

  AclInheritance narrowed = parse(kExtended).inherit(0100204);
  CHECK(narrowed.mode == 0100200);
  REQUIRE(narrowed.access);
  CHECK(permissions(*narrowed.access, ACL_USER_OBJ) == 2);
  CHECK(permissions(*narrowed.access, ACL_MASK) == 0);
  CHECK(permissions(*narrowed.access, ACL_OTHER) == 0);
}

TEST_CASE("entries GFS2 stores") {
  CHECK(Acl::max_entries(4096) == 300);
  CHECK(Acl::max_entries(1024) == 75);
  CHECK(Acl::max_entries(512) == 37);
}

}  // namespace
}  // namespace corral
