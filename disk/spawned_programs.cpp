#include "disk/spawned_programs.h"

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <optional>
#include <utility>

#include <fcntl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/check.h"
#include "base/file_descriptor.h"
#include "base/process_start.h"
#include "base/sync.h"

namespace corral {

namespace {
struct Pipe {
  FileDescriptor out;
  FileDescriptor in;
};

Result<Pipe> make_pipe() {
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0) return fail(errno, "cannot make a pipe: {}", std::strerror(errno));
  return Pipe{FileDescriptor(ends[0]), FileDescriptor(ends[1])};
}
}  // namespace

/// A child that runs; destroying it kills it.
class SpawnedPrograms::Child {
 public:
  Child(SpawnedPrograms& owner, pid_t pid, FileDescriptor output)
      : owner_(owner), pid_(pid), output_(std::move(output)), ended_(owner.loop_.executor()) {}
  ~Child() {
    output_watch_.reset();
    end_watch_.reset();
    if (status_) return;
    kill(-pid_, SIGKILL);
    owner_.killed_.push_back(pid_);
    owner_.reap();
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  Result<> watch() {
    handle_ = FileDescriptor(static_cast<int>(syscall(SYS_pidfd_open, pid_, 0)));
    if (!handle_) return fail(errno, "cannot watch a process: {}", std::strerror(errno));
    TRY(output_watch_, owner_.loop_.watch_readable(output_.get(), [this] { return read_output(); }));
    TRY(end_watch_, owner_.loop_.watch_readable(handle_.get(), [this] { return note_end(); }));
    return {};
  }
  Task<bool> ended_by(Time due) { co_return co_await ended_.wait_until(due); }
  /// As waitpid() gives it, once it has ended.
  int status() const { return *status_; }
  std::string take_output() { return std::move(text_); }

 private:
  EventLoop::Drained read_output() {
    std::array<char, 1024> bytes;
    const ssize_t got = read(output_.get(), bytes.data(), bytes.size());
    if (got <= 0) {
      // The end of what it writes, which it may close long before it ends.
      if (got == 0 || (errno != EAGAIN && errno != EINTR)) closed_ = true;
      return EventLoop::Drained::all;
    }
    const std::size_t room = kMostOutputBytes - text_.size();
    text_.append(bytes.data(), std::min(room, static_cast<std::size_t>(got)));
    return EventLoop::Drained::more;
  }
  EventLoop::Drained note_end() {
    int status = 0;
    if (status_ || waitpid(pid_, &status, WNOHANG) != pid_) return EventLoop::Drained::all;
    status_ = status;
    while (!closed_ && read_output() == EventLoop::Drained::more) {
    }
    ended_.set();
    return EventLoop::Drained::all;
  }

  SpawnedPrograms& owner_;
  pid_t pid_;
  FileDescriptor output_;
  FileDescriptor handle_;
  std::unique_ptr<EventLoop::Watch> output_watch_;
  std::unique_ptr<EventLoop::Watch> end_watch_;
  std::string text_;
  bool closed_ = false;
  std::optional<int> status_;
  Event ended_;
};

SpawnedPrograms::SpawnedPrograms(EventLoop& loop, std::vector<std::string> folders)
    : loop_(loop), folders_(std::move(folders)) {}

SpawnedPrograms::~SpawnedPrograms() {
  reap();
}

/// One that hangs in the kernel, and is not gone yet, is left to be looked at again.
void SpawnedPrograms::reap() {
  std::erase_if(killed_, [](pid_t pid) { return waitpid(pid, nullptr, WNOHANG) != 0; });
}

Task<Result<std::string>> SpawnedPrograms::find(std::string name) {
  if (name.empty() || name.find('/') != std::string::npos) co_return fail(ENOENT, "'{}' is no program's name", name);
  std::string places;
  for (const std::string& folder : folders_) {
    const std::filesystem::path path = std::filesystem::path(folder) / name;
    std::error_code none;
    if (std::filesystem::is_regular_file(path, none) && access(path.c_str(), X_OK) == 0) co_return path.string();
    places += (places.empty() ? "" : ", ") + folder;
  }
  co_return fail(ENOENT, "there is no program {} in {}", name, places);
}

Task<Result<ProgramRun>> SpawnedPrograms::run(std::string path, std::string input, Duration limit) {
  CHECK_INVARIANT(input.size() <= kMostInputBytes);
  reap();
  const Time due = loop_.executor().now() + limit;
  CO_TRY(Pipe to, make_pipe());
  CO_TRY(Pipe from, make_pipe());
  // A pipe takes that much at once. Before the child can be gone: nobody to read it would be a signal.
  if (write(to.in.get(), input.data(), input.size()) != static_cast<ssize_t>(input.size()))
    co_return fail(errno, "{}: cannot hand over its input: {}", path, std::strerror(errno));
  CO_TRY(const pid_t pid, start_process(path, {.environment = {{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}},
                                               .input = to.out.get(),
                                               .output = from.in.get(),
                                               .own_group = true}));
  to = Pipe{FileDescriptor(), FileDescriptor()};
  from.in = FileDescriptor();
  Child child(*this, pid, std::move(from.out));
  CO_TRY_VOID(child.watch());
  if (!co_await child.ended_by(due))
    co_return fail(ETIMEDOUT, "{}: did not end within {} s and was killed", path, limit / std::chrono::seconds(1));
  if (!WIFEXITED(child.status())) co_return fail(EIO, "{}: ended by signal {}", path, WTERMSIG(child.status()));
  co_return ProgramRun{WEXITSTATUS(child.status()), child.take_output()};
}

}  // namespace corral
