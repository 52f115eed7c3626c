/// mount.corral: mounts a volume. What `mount -t corral` and fstab call; see docs/man/mount.corral.8.
#include <array>
#include <climits>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>

#include <CLI/CLI.hpp>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "disk/open_device.h"
#include "fuse/mount_service.h"

namespace {

using namespace corral;

/// Exit codes of mount(8).
constexpr int kUsage = 1;
constexpr int kSystem = 2;
constexpr int kFailed = 32;

constexpr const char* kProgram = "mount.corral";

void complain(const std::string& message) {
  fmt::print(stderr, "{}: {}\n", kProgram, message);
}

/// The kernel may have to write our pages to get memory for us, and must not kill us to get it: a filesystem that dies
/// takes its users along. Both need privileges that root may lack in a container; then we go on without.
void stay_alive() {
#ifdef PR_SET_IO_FLUSHER
  prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0);
#endif
  std::ofstream("/proc/self/oom_score_adj") << -1000;
}

/// The way a daemon tells the program that started it how the mounting went.
class Starter {
 public:
  /// In the child; in the parent waits for the child's word and exits.
  static Starter fork_daemon();
  /// The mount is usable: the starter exits with 0, and this process leaves its terminal and folder.
  void succeeded();
  /// Errors are on stderr already.
  [[noreturn]] void failed(int code);

 private:
  explicit Starter(int descriptor) : descriptor_(descriptor) {}
  void report(int code) const;
  int descriptor_;
};

Starter Starter::fork_daemon() {
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0) {
    complain(fmt::format("pipe: {}", strerror(errno)));
    std::exit(kSystem);
  }
  pid_t child = fork();
  if (child < 0) {
    complain(fmt::format("fork: {}", strerror(errno)));
    std::exit(kSystem);
  }
  if (child == 0) {
    close(ends[0]);
    setsid();
    return Starter(ends[1]);
  }
  close(ends[1]);
  unsigned char code = 0;
  if (read(ends[0], &code, 1) == 1) std::exit(code);
  int status = 0;
  waitpid(child, &status, 0);
  complain(WIFSIGNALED(status) ? fmt::format("ended by signal {}", WTERMSIG(status)) : "ended without mounting");
  std::exit(kFailed);
}

void Starter::report(int code) const {
  auto byte = static_cast<unsigned char>(code);
  [[maybe_unused]] ssize_t written = write(descriptor_, &byte, 1);
}

void Starter::succeeded() {
  if (chdir("/") != 0) complain(fmt::format("/: {}", strerror(errno)));
  int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  for (int standard : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
    if (null >= 0) dup2(null, standard);
  if (null > STDERR_FILENO) close(null);
  report(0);
  close(descriptor_);
}

void Starter::failed(int code) {
  report(code);
  std::exit(code);
}

struct CommandLine {
  MountArguments arguments;
  bool foreground = false;
  bool verbose = false;
};

/// Exits with a message if it cannot be used.
CommandLine parse(int argc, char** argv) {
  CommandLine line;
  std::vector<std::string> options;
  std::string unused;
  bool ignored = false;
  CLI::App app("Mounts a GFS2 volume.", kProgram);
  app.set_version_flag("-V,--version", std::string(kProgram) + " " + CORRAL_VERSION);
  app.add_option("device", line.arguments.device, "block device, image file or iscsi://host[:port]/target/lun")
      ->required();
  app.add_option("directory", line.arguments.directory, "where to mount it")->required();
  app.add_option("-o", options, "mount options, separated by commas")->allow_extra_args(false);
  app.add_flag("-f", line.foreground, "stay in the foreground, messages to stderr");
  app.add_flag("-v", line.verbose, "tell more");
  app.add_flag("-n,-s", ignored, "for mount(8), without effect");
  app.add_option("-t", unused, "for mount(8), without effect");
  try {
    app.parse(argc, argv);
    for (const std::string& option : options) {
      if (Result<> added = line.arguments.add_options(option); !added) {
        complain(added.error().message());
        std::exit(kUsage);
      }
    }
  } catch (const CLI::ParseError& error) {
    std::exit(app.exit(error) == 0 ? 0 : kUsage);
  }
  line.arguments.finish();
  return line;
}

Result<std::string> absolute(const std::string& path) {
  std::array<char, PATH_MAX> buffer{};
  if (realpath(path.c_str(), buffer.data()) == nullptr) return fail(errno, "{}: {}", path, strerror(errno));
  return std::string(buffer.data());
}

Result<> check_places(MountArguments& arguments) {
  TRY(arguments.device, absolute_device_name(arguments.device));
  TRY(arguments.directory, absolute(arguments.directory));
  struct stat status{};
  if (stat(arguments.directory.c_str(), &status) != 0)
    return fail(errno, "{}: {}", arguments.directory, strerror(errno));
  if (!S_ISDIR(status.st_mode)) return fail(ENOTDIR, "{}: not a directory", arguments.directory);
  return {};
}

/// -o remount: what the kernel alone decides can change; the rest is as mounted.
int remount(const MountArguments& arguments) {
  std::array<char, 4096> statistics{};
  if (getxattr(arguments.directory.c_str(), Front::kStatisticsName, statistics.data(), statistics.size() - 1) < 0) {
    complain(fmt::format("{} is not a Corral mount", arguments.directory));
    return kFailed;
  }
  bool to_write = (arguments.kernel_flags & MS_RDONLY) == 0;
  if (to_write && std::strstr(statistics.data(), "\"read_only\":true") != nullptr) {
    complain(fmt::format("{} was mounted read-only; to write, unmount it and mount it again", arguments.directory));
    return kFailed;
  }
  if (arguments.for_filesystem)
    complain("only ro, rw and the generic options change on remount; the others stay as they are");
  if (Result<> done = KernelMount::remount(arguments.directory, arguments.kernel_flags); !done) {
    complain(done.error().describe());
    return kFailed;
  }
  return 0;
}

int run(CommandLine line, std::optional<Starter> starter) {
  stay_alive();
  LogLevel level = line.verbose || line.arguments.filesystem.debug ? LogLevel::debug : LogLevel::info;
  SystemLogSink log(kProgram, level, true, starter.has_value());
  bool usable = false;
  Result<> done = MountService(std::move(line.arguments), log).run([&] {
    usable = true;
    if (starter) starter->succeeded();
  });
  if (!done && !usable) log.write(LogLevel::error, done.error().describe());
  if (starter && !usable) starter->failed(kFailed);
  return done ? 0 : kFailed;
}

}  // namespace

int main(int argc, char** argv) {
  CommandLine line = parse(argc, argv);
  if (Result<> checked = check_places(line.arguments); !checked) {
    complain(checked.error().describe());
    return kFailed;
  }
  if (geteuid() != 0) {
    complain("only root can mount");
    return kUsage;
  }
  if (line.arguments.remount) return remount(line.arguments);
  if (!line.arguments.without_effect.empty() && line.verbose)
    complain(fmt::format("options without effect: {}", fmt::join(line.arguments.without_effect, ", ")));
  if (line.foreground) return run(std::move(line), std::nullopt);
  Starter starter = Starter::fork_daemon();
  return run(std::move(line), starter);
}
