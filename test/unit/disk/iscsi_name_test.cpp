#include "disk/iscsi_name.h"

#include <fstream>

#include <sys/stat.h>

#include "disk/open_device.h"
#include "test/support/catch.h"
#include "test/support/temporary_file.h"

using namespace corral;
using namespace std::chrono_literals;

TEST_CASE("iSCSI names are taken apart") {
  IscsiName plain = *IscsiName::parse("iscsi://storage.example/iqn.2001-04.com.example:disk/3");
  REQUIRE(plain.host == "storage.example");
  REQUIRE(plain.port == 3260);
  REQUIRE(plain.target == "iqn.2001-04.com.example:disk");
  REQUIRE(plain.lun == 3);
  REQUIRE(plain.user.empty());
  REQUIRE(plain.portal() == "storage.example:3260");

  IscsiName full = *IscsiName::parse(
      "iscsi://me%/etc/corral/secret@[2001:db8::1]:3261/eui.02004567A425678D/0"
      "?initiator=iqn.2001-04.com.example:node1&timeout=5&recovery=60");
  REQUIRE(full.user == "me");
  REQUIRE(full.secret_file == "/etc/corral/secret");
  REQUIRE(full.host == "2001:db8::1");
  REQUIRE(full.portal() == "[2001:db8::1]:3261");
  REQUIRE(full.initiator == "iqn.2001-04.com.example:node1");
  REQUIRE(full.timeout == 5s);
  REQUIRE(full.recovery == 60s);
  REQUIRE(*initiator_name(full) == "iqn.2001-04.com.example:node1");
  REQUIRE(initiator_name(plain)->starts_with("iqn.2026-11.corral.host:"));
}

TEST_CASE("what is wrong with an iSCSI name is said") {
  for (const char* text :
       {"iscsi://", "iscsi:///iqn.2001-04.com.example:d/1", "iscsi://host", "iscsi://host/iqn.2001-04.com.example:d",
        "iscsi://host/iqn.2001-04.com.example:d/", "iscsi://host/iqn.2001-04.com.example:d/x",
        "iscsi://host/iqn.2001-04.com.example:d/256", "iscsi://host/iqn.2001-04.com.example:d/1/2",
        "iscsi://host/disk/1", "iscsi://host:0/iqn.2001-04.com.example:d/1",
        "iscsi://host:65536/iqn.2001-04.com.example:d/1", "iscsi://[::1/iqn.2001-04.com.example:d/1",
        "iscsi://[::1]x/iqn.2001-04.com.example:d/1", "iscsi://me@host/iqn.2001-04.com.example:d/1",
        "iscsi://%file@host/iqn.2001-04.com.example:d/1", "iscsi://host/iqn.2001-04.com.example:d/1?what=ever",
        "iscsi://host/iqn.2001-04.com.example:d/1?timeout=0", "iscsi://host/iqn.2001-04.com.example:d/1?timeout",
        "iscsi://host/iqn.2001-04.com.example:d/1?initiator=me"}) {
    auto parsed = IscsiName::parse(text);
    INFO(text);
    REQUIRE_FALSE(parsed.has_value());
    REQUIRE(parsed.error().code() == EINVAL);
    REQUIRE(parsed.error().message().find(text) == 0);
  }
}

TEST_CASE("names of devices are paths or iSCSI names") {
  REQUIRE(names_path("/dev/sdb"));
  REQUIRE(names_path("iscsi"));
  REQUIRE_FALSE(names_path("iscsi://host/iqn.2001-04.com.example:d/1"));
  REQUIRE(absolute_device_name("/dev/null").error().code() == ENOTBLK);
  REQUIRE(absolute_device_name("/nonexistent").error().code() == ENOENT);
  REQUIRE(absolute_device_name("iscsi://host/nothing").error().code() == EINVAL);
  TemporaryFile file;
  REQUIRE(*absolute_device_name(file.path()) == file.path());
}

TEST_CASE("a CHAP secret is one line that nobody else can read") {
  TemporaryFile file;
  auto put = [&](const std::string& text, mode_t mode) {
    std::ofstream(file.path()) << text;
    chmod(file.path().c_str(), mode);
  };
  put("a secret\n", 0600);
  REQUIRE(*read_secret(file.path()) == "a secret");
  put("a secret\n", 0640);
  REQUIRE(read_secret(file.path()).error().code() == EACCES);
  put("\n", 0600);
  REQUIRE(read_secret(file.path()).error().code() == EINVAL);
  put(std::string(250, 'x'), 0600);
  REQUIRE(read_secret(file.path()).error().code() == EINVAL);
  REQUIRE(read_secret("/nonexistent").error().code() == ENOENT);
}
