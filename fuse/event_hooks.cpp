#include "fuse/event_hooks.h"

#include <algorithm>
#include <array>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <memory>
#include <vector>

#include <fcntl.h>
#include <poll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file_descriptor.h"
#include "base/process_start.h"
#include "base/result.h"

namespace corral {

namespace {
namespace files = std::filesystem;

std::vector<std::string> programs_in(const std::string& folder) {
  std::vector<std::string> programs;
  std::error_code error;
  for (files::directory_iterator at(folder, error), end; !error && at != end; at.increment(error)) {
    std::error_code no_file;
    if (at->is_regular_file(no_file) && access(at->path().c_str(), X_OK) == 0) programs.push_back(at->path());
  }
  std::ranges::sort(programs);
  return programs;
}

Result<> wait_for(pid_t child, const std::string& program) {
  const FileDescriptor handle(static_cast<int>(syscall(SYS_pidfd_open, child, 0)));
  pollfd waiting{.fd = handle.get(), .events = POLLIN, .revents = 0};
  const auto patience = static_cast<int>(EventHooks::kMostTime / std::chrono::milliseconds(1));
  const bool ended = handle && poll(&waiting, 1, patience) == 1;
  if (!ended) kill(child, SIGKILL);
  int status = 0;
  waitpid(child, &status, 0);
  if (!ended) return fail(ETIMEDOUT, "{}: took too long and was killed", program);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return {};
  if (WIFSIGNALED(status)) return fail(EIO, "{}: ended by signal {}", program, WTERMSIG(status));
  return fail(EIO, "{}: exit status {}", program, WEXITSTATUS(status));
}

Result<> run_program(const std::string& program, const std::string& event, const std::string& json) {
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0) return fail(errno, "pipe: {}", std::strerror(errno));
  FileDescriptor out(ends[0]);
  FileDescriptor in(ends[1]);
  TRY(const pid_t child, start_process(program, {.arguments = {event}, .input = out.get()}));
  out = FileDescriptor();
  // A pipe takes far more than an event at once; who does not read it is no error.
  const std::string line = json + "\n";
  [[maybe_unused]] const ssize_t written = write(in.get(), line.data(), line.size());
  in = FileDescriptor();
  return wait_for(child, program);
}

std::vector<std::string> run_all(const std::string& folder, const std::string& event, const std::string& json) {
  std::vector<std::string> failures;
  for (const std::string& program : programs_in(folder))
    if (Result<> done = run_program(program, event, json); !done) failures.push_back(done.error().describe());
  return failures;
}
}  // namespace

EventHooks::EventHooks(EventLoop& loop, std::string folder, Logger log)
    : folder_(std::move(folder)), log_(std::move(log)), thread_(loop, 1), runs_(loop.executor()) {}

void EventHooks::run(std::string event, std::string json) {
  if (runs_.running() >= kMostWaiting)
    return log_.warning("event {}: the programs in {} have not finished with earlier ones: not told", event, folder_);
  runs_.spawn(run_one(std::move(event), std::move(json)));
}

Task<void> EventHooks::run_one(std::string event, std::string json) {
  auto failures = std::make_shared<std::vector<std::string>>();
  co_await thread_.run([failures, folder = folder_, event, json] { *failures = run_all(folder, event, json); });
  for (const std::string& failure : *failures)
    log_.warning("event {}: {}", event, failure);
}

Task<void> EventHooks::finished() {
  co_await runs_.join();
}

}  // namespace corral
