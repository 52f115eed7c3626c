#include "tools/doctor/host_checks.h"

#include <array>
#include <cstring>
#include <filesystem>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/timex.h>
#include <unistd.h>

#include "base/file_descriptor.h"
#include "base/first_line.h"
#include "cluster/area_format.h"
#include "disk/event_loop.h"
#include "disk/ring.h"

namespace corral::doctor {

namespace files = std::filesystem;

namespace {

std::pair<unsigned, unsigned> kernel_of(const HostFolders& folders) {
  return parse_release(first_line(folders.proc + "/sys/kernel/osrelease"));
}

bool can_open(const std::string& path) {
  return static_cast<bool>(FileDescriptor(open(path.c_str(), O_RDWR | O_CLOEXEC)));
}

}  // namespace

std::pair<unsigned, unsigned> parse_release(std::string_view release) {
  unsigned major = 0;
  unsigned minor = 0;
  if (std::sscanf(std::string(release).c_str(), "%u.%u", &major, &minor) != 2) return {0, 0};
  return {major, minor};
}

void check_kernel(const HostFolders& folders, Findings& findings) {
  const std::string release = first_line(folders.proc + "/sys/kernel/osrelease");
  const auto version = parse_release(release);
  if (version < std::pair{5u, 10u}) {
    findings.problem("kernel", fmt::format("Linux {}", release), "Corral needs Linux 5.10 or later");
  } else if (version < std::pair{6u, 16u}) {
    findings.note("kernel", fmt::format("Linux {}: the kernel keeps no names of a cluster mount", release),
                  "look-ups of names are faster from Linux 6.16 on");
  } else if (version < std::pair{6u, 18u}) {
    findings.note("kernel",
                  fmt::format("Linux {}: what others delete stays in the kernel's memory for a while", release),
                  "space of deleted files is free sooner from Linux 6.18 on");
  } else {
    findings.good("kernel", fmt::format("Linux {}", release));
  }
}

void check_fuse(const HostFolders& folders, Findings& findings) {
  const std::string device = folders.dev + "/fuse";
  if (can_open(device)) return findings.good("fuse", device + " can be opened");
  findings.problem("fuse", fmt::format("{}: {}", device, std::strerror(errno)),
                   errno == EACCES || errno == EPERM
                       ? "run this, and mount, as root; in a container, allow the device 10:229"
                       : "modprobe fuse, and have it loaded at boot (/etc/modules-load.d)");
}

void check_helper(const HostFolders& folders, Findings& findings) {
  if (access(folders.helper.c_str(), X_OK) == 0) return findings.good("mount helper", folders.helper + " is there");
  findings.warn("mount helper",
                fmt::format("{}: {}: mount -t corral and /etc/fstab do not work", folders.helper, std::strerror(errno)),
                "install the package, or: cmake --install build/release --prefix /usr");
}

void check_io_uring(const HostFolders& folders, Findings& findings) {
  const std::string disabled = first_line(folders.proc + "/sys/kernel/io_uring_disabled");
  EventLoop loop;
  const auto ring = Ring::open(loop, 8);
  if (!ring) {
    findings.problem("io_uring", ring.error().describe(),
                     disabled == "1" || disabled == "2"
                         ? fmt::format("sysctl kernel.io_uring_disabled=0 (it is {})", disabled)
                         : "let the container's seccomp profile allow io_uring_setup, io_uring_enter and "
                           "io_uring_register");
  } else if (disabled == "1") {
    findings.note("io_uring", "kernel.io_uring_disabled is 1: only for privileged processes", "mount as root");
  } else {
    findings.good("io_uring", "can be used");
  }
  // Later kernels count the rings' memory for the control group.
  constexpr std::uint64_t kEnoughBytes = 8 << 20;
  rlimit limit{};
  if (kernel_of(folders) < std::pair{5u, 12u} && getrlimit(RLIMIT_MEMLOCK, &limit) == 0 &&
      limit.rlim_cur < kEnoughBytes && geteuid() != 0)
    findings.warn("locked memory", fmt::format("RLIMIT_MEMLOCK is {} bytes", limit.rlim_cur),
                  "ulimit -l 8192 or more, or mount as root");
}

void check_hooks(const HostFolders& folders, Findings& findings) {
  std::error_code error;
  std::size_t programs = 0;
  bool sound = true;
  for (files::directory_iterator at(folders.hooks, error), end; !error && at != end; at.increment(error)) {
    struct stat status{};
    const std::string path = at->path();
    if (stat(path.c_str(), &status) != 0 || !S_ISREG(status.st_mode)) continue;
    if ((status.st_mode & S_IWOTH) != 0 || ((status.st_mode & S_IWGRP) != 0 && status.st_gid != 0)) {
      sound = false;
      findings.problem("events", fmt::format("{} is run as root, and others can write to it", path),
                       "chmod go-w " + path);
    }
    if (access(path.c_str(), X_OK) != 0) {
      sound = false;
      findings.warn("events", path + " is not executable, and is not run", "chmod +x " + path + ", or take it away");
    } else {
      ++programs;
    }
  }
  if (sound) findings.good("events", fmt::format("{} programs in {}", programs, folders.hooks));
}

void check_clock(Findings& findings) {
  timex state{};
  const int status = adjtimex(&state);
  if (status < 0) return findings.note("clock", fmt::format("its state cannot be seen: {}", std::strerror(errno)));
  if (status == TIME_ERROR || (state.status & STA_UNSYNC) != 0) {
    findings.warn("clock", "nobody keeps the clock right (it is not synchronised)",
                  "run chrony, systemd-timesyncd or another NTP client on every node: times of files come from it");
  } else {
    findings.good("clock", fmt::format("synchronised, off by at most {} ms", state.maxerror / 1000));
  }
}

void check_host_name(Findings& findings) {
  std::array<char, 256> name{};
  if (gethostname(name.data(), name.size() - 1) != 0 || !cluster::is_valid_node_name(name.data())) {
    findings.problem("name", fmt::format("the host's name, \"{}\", cannot be a node's", name.data()),
                     "mount with -o node=NAME: 1 to 64 printable ASCII characters without spaces");
  } else if (std::string_view(name.data()) == "localhost") {
    findings.warn("name", "the host is called localhost",
                  "give each host a name of its own, or mount with -o node=NAME");
  } else {
    findings.good("name", fmt::format("this node is {}", name.data()));
  }
}

}  // namespace corral::doctor
