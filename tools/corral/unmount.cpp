#include "tools/corral/unmount.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstring>
#include <filesystem>
#include <vector>

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <poll.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file_descriptor.h"
#include "base/first_line.h"

namespace corral {

namespace {
namespace files = std::filesystem;

constexpr std::size_t kMostNamed = 5;

/// By the link's text: what it points to is not looked at, for the mount may hang.
bool points_into(const files::path& link, const std::string& directory) {
  std::array<char, PATH_MAX> text{};
  const ssize_t length = readlink(link.c_str(), text.data(), text.size());
  if (length <= 0) return false;
  const std::string_view path(text.data(), static_cast<std::size_t>(length));
  return path == directory || path.starts_with(directory + "/");
}

bool uses(const files::path& process, const std::string& directory) {
  for (const char* link : {"cwd", "root", "exe"})
    if (points_into(process / link, directory)) return true;
  std::error_code error;
  for (files::directory_iterator at(process / "fd", error), end; !error && at != end; at.increment(error))
    if (points_into(at->path(), directory)) return true;
  return false;
}

/// "process 17 (bash), process 18 (vi)".
std::string users_of(const std::string& directory) {
  std::vector<std::string> users;
  std::error_code error;
  for (files::directory_iterator at("/proc", error), end; !error && at != end; at.increment(error)) {
    const std::string name = at->path().filename();
    const bool is_process = std::ranges::all_of(name, [](char c) { return c >= '0' && c <= '9'; });
    if (!is_process || !uses(at->path(), directory)) continue;
    users.push_back(fmt::format("process {} ({})", name, first_line(at->path() / "comm")));
    if (users.size() == kMostNamed) break;
  }
  return fmt::format("{}", fmt::join(users, ", "));
}
/// It may outlive the program: who waits for the program's output is not to wait for it, nor does a ^C end it.
void detach() {
  setsid();
  const int nothing = open("/dev/null", O_RDWR);
  for (int standard : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
    if (nothing >= 0) dup2(nothing, standard);
}
}  // namespace

/// In a process of its own, because umount(2) waits for as long as the mount's process takes.
Result<> unmount_within(const std::string& directory, Duration limit) {
  const pid_t child = fork();
  if (child < 0) return fail(errno, "cannot start a process: {}", std::strerror(errno));
  if (child == 0) {
    detach();
    _exit(umount2(directory.c_str(), UMOUNT_NOFOLLOW) == 0 ? 0 : errno);
  }
  const FileDescriptor handle(static_cast<int>(syscall(SYS_pidfd_open, child, 0)));
  pollfd waiting{.fd = handle.get(), .events = POLLIN, .revents = 0};
  const auto patience = static_cast<int>(limit / std::chrono::milliseconds(1));
  if (handle && poll(&waiting, 1, patience) != 1)
    return fail(ETIMEDOUT,
                "{}: still unmounting after {} s: the disk or the mount's process does not answer, or there is much to "
                "write; it goes on in the background",
                directory, limit / std::chrono::seconds(1));
  int status = 0;
  waitpid(child, &status, 0);
  const int code = WIFEXITED(status) ? WEXITSTATUS(status) : EINTR;
  if (code == 0) return {};
  if (code != EBUSY) return fail(code, "{}: {}", directory, std::strerror(code));
  const std::string users = users_of(directory);
  return fail(EBUSY, "{}: in use{}: end that first (fuser -vm {} shows more); the node stays in the cluster", directory,
              users.empty() ? "" : " by " + users, directory);
}

}  // namespace corral
