// The checks of corral doctor, on hosts made of files and on this one's loopback.
#include <csignal>
#include <filesystem>
#include <fstream>

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file_descriptor.h"
#include "cluster/address.h"
#include "test/support/catch.h"
#include "tools/doctor/block_device_checks.h"
#include "tools/doctor/bounded.h"
#include "tools/doctor/host_checks.h"
#include "tools/doctor/network_checks.h"

using namespace corral;
using namespace corral::doctor;
namespace files = std::filesystem;

namespace {

/// A folder that is gone at the end of the test.
class Folder {
 public:
  Folder() {
    std::string name = (files::temp_directory_path() / "corral-test-XXXXXX").string();
    REQUIRE(mkdtemp(name.data()) != nullptr);
    path_ = name;
  }
  ~Folder() { files::remove_all(path_); }
  std::string path() const { return path_.string(); }
  void put(const std::string& name, const std::string& line) const {
    files::create_directories((path_ / name).parent_path());
    std::ofstream(path_ / name) << line << '\n';
  }
  void link(const std::string& name, const std::string& target) const {
    files::create_directories((path_ / name).parent_path());
    files::create_directory_symlink(path_ / target, path_ / name);
  }

 private:
  files::path path_;
};

/// The findings of one check, "severity check", in order.
std::string severities(const Findings& findings) {
  std::string text;
  for (const Finding& finding : findings.all())
    text += std::string(name_of(finding.severity)) + " " + finding.check + "\n";
  return text;
}

/// Two names of one SCSI disk, as the kernel shows them where no multipathd is, and a third disk.
Folder disks() {
  Folder sys;
  for (const std::string name : {"sda", "sdb", "sdc"}) {
    sys.put("devices/" + name + "/device/wwid", name == "sdc" ? "naa.2" : "naa.1    ");
    sys.link("block/" + name, "devices/" + name);
  }
  sys.link("dev/block/8:0", "devices/sda");
  sys.link("dev/block/8:32", "devices/sdc");
  return sys;
}

std::string block_device_severities(const Folder& sys, std::uint32_t device_major, std::uint32_t device_minor) {
  Findings findings;
  check_block_device(sys.path(), device_major, device_minor, findings);
  return severities(findings);
}

}  // namespace

TEST_CASE("a disk that is reached twice without multipath is a problem") {
  const Folder sys = disks();
  CHECK(block_device_severities(sys, 8, 0) == "good whole disk\nproblem paths\n");
  CHECK(block_device_severities(sys, 8, 32) == "good whole disk\ngood paths\n");
}

TEST_CASE("one path of a multipath device is not used past it") {
  const Folder sys = disks();
  sys.put("devices/dm-0/dm/uuid", "mpath-naa.1");
  sys.put("devices/dm-0/dm/name", "mpatha");
  sys.link("block/dm-0", "devices/dm-0");
  sys.link("devices/sda/holders/dm-0", "devices/dm-0");
  sys.link("devices/dm-0/slaves/sda", "devices/sda");
  sys.link("dev/block/253:0", "devices/dm-0");
  Findings findings;
  check_block_device(sys.path(), 8, 0, findings);
  REQUIRE(findings.worst() == Severity::problem);
  CHECK(findings.all().back().advice == "use /dev/mapper/mpatha");
  CHECK(block_device_severities(sys, 253, 0) == "warning paths\n");
  sys.link("devices/dm-0/slaves/sdb", "devices/sdb");
  CHECK(block_device_severities(sys, 253, 0) == "good paths\n");
}

TEST_CASE("partitions and logical volumes are not for several nodes") {
  const Folder sys = disks();
  sys.put("devices/sda/sda1/partition", "1");
  sys.link("dev/block/8:1", "devices/sda/sda1");
  sys.put("devices/dm-1/dm/uuid", "LVM-abc");
  sys.link("dev/block/253:1", "devices/dm-1");
  CHECK(block_device_severities(sys, 8, 1) == "problem whole disk\n");
  CHECK(block_device_severities(sys, 253, 1) == "problem whole disk\n");
  CHECK(block_device_severities(sys, 9, 9) == "note whole disk\n");
}

TEST_CASE("a disk that takes no writes is a problem") {
  const Folder sys = disks();
  sys.put("devices/sdc/ro", "1");
  CHECK(block_device_severities(sys, 8, 32) == "problem read only\ngood whole disk\ngood paths\n");
  sys.put("devices/sdc/ro", "0");
  CHECK(block_device_severities(sys, 8, 32) == "good whole disk\ngood paths\n");
}

TEST_CASE("releases of kernels") {
  CHECK(parse_release("6.1.0-13-amd64") == std::pair{6u, 1u});
  CHECK(parse_release("5.10") == std::pair{5u, 10u});
  CHECK(parse_release("nonsense") == std::pair{0u, 0u});
  const Folder proc;
  for (const auto& [release, severity] : std::vector<std::pair<std::string, Severity>>{{"4.19.0", Severity::problem},
                                                                                       {"5.9.9", Severity::problem},
                                                                                       {"5.10.0", Severity::note},
                                                                                       {"6.17.1", Severity::note},
                                                                                       {"6.18.0", Severity::good},
                                                                                       {"", Severity::problem}}) {
    proc.put("sys/kernel/osrelease", release);
    Findings findings;
    check_kernel({.proc = proc.path()}, findings);
    INFO(release);
    CHECK(findings.worst() == severity);
  }
}

TEST_CASE("without /dev/fuse or the mount helper there is something to do") {
  const Folder host;
  Findings findings;
  check_fuse({.dev = host.path()}, findings);
  check_helper({.helper = host.path() + "/mount.corral"}, findings);
  CHECK(severities(findings) == "problem fuse\nwarning mount helper\n");
  for (const Finding& finding : findings.all())
    CHECK_FALSE(finding.advice.empty());
}

TEST_CASE("hooks that are not run, and those that others can change") {
  const Folder host;
  const HostFolders folders{.hooks = host.path() + "/events.d"};
  Findings none;
  check_hooks(folders, none);
  CHECK(severities(none) == "good events\n");
  host.put("events.d/10-mail", "#!/bin/sh");
  Findings idle;
  check_hooks(folders, idle);
  CHECK(severities(idle) == "warning events\n");
  ::chmod((folders.hooks + "/10-mail").c_str(), 0755);
  Findings sound;
  check_hooks(folders, sound);
  CHECK(severities(sound) == "good events\n");
  ::chmod((folders.hooks + "/10-mail").c_str(), 0757);
  Findings open_to_all;
  check_hooks(folders, open_to_all);
  CHECK(severities(open_to_all) == "problem events\n");
}

TEST_CASE("a check that hangs or dies does not keep the others") {
  CHECK(run_bounded(std::chrono::seconds(60), [] { return nlohmann::json{{"answer", 42}}; }) ==
        nlohmann::json{{"answer", 42}});
  // More than a pipe holds.
  const std::string long_text(1 << 20, 'x');
  CHECK(run_bounded(std::chrono::seconds(60), [&] { return nlohmann::json(long_text); }) == long_text);
  CHECK_FALSE(run_bounded(std::chrono::milliseconds(20), []() -> nlohmann::json {
    for (;;)
      pause();
  }));
  CHECK_FALSE(run_bounded(std::chrono::seconds(60), []() -> nlohmann::json {
    raise(SIGKILL);
    return {};
  }));
}

TEST_CASE("peers that answer and peers that do not") {
  const FileDescriptor listening(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in here{};
  here.sin_family = AF_INET;
  here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof(here);
  REQUIRE(::bind(listening.get(), reinterpret_cast<const sockaddr*>(&here), sizeof(here)) == 0);
  REQUIRE(::getsockname(listening.get(), reinterpret_cast<sockaddr*>(&here), &length) == 0);
  const std::uint16_t port = ntohs(here.sin_port);
  const cluster::Address loopback = cluster::address_of(here.sin_addr);
  Findings deaf;
  check_peers({{.name = "deaf", .port = port, .addresses = {loopback}}}, std::chrono::seconds(60), deaf);
  CHECK(severities(deaf) == "problem peers\n");

  REQUIRE(::listen(listening.get(), 8) == 0);
  Findings well;
  check_peers({{.name = "well", .port = port, .addresses = {loopback}}}, std::chrono::seconds(60), well);
  CHECK(severities(well) == "good peers\n");

  Findings taken;
  check_port(port, false, taken);
  CHECK(severities(taken) == "problem port\n");
  Findings ours;
  check_port(port, true, ours);
  CHECK(severities(ours) == "note port\n");
}

TEST_CASE("findings go through JSON unchanged") {
  const Finding finding{.check = "a", .severity = Severity::warning, .found = "b", .advice = "c"};
  const Finding back = nlohmann::json(finding).get<Finding>();
  CHECK(nlohmann::json(back) == nlohmann::json(finding));
  CHECK(back.severity == Severity::warning);
}
