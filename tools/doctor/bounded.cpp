#include "tools/doctor/bounded.h"

#include <array>
#include <csignal>
#include <cstdio>
#include <string>

#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file_descriptor.h"

namespace corral::doctor {

namespace {

/// All that comes until the end, or nothing where that takes too long.
std::optional<std::string> read_until(int descriptor, Time deadline, const Clock& clock) {
  std::string text;
  std::array<char, 4096> part{};
  for (;;) {
    const auto left = (deadline - clock.now()) / std::chrono::milliseconds(1);
    pollfd ready{.fd = descriptor, .events = POLLIN, .revents = 0};
    const int count = left > 0 ? poll(&ready, 1, static_cast<int>(left)) : 0;
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return std::nullopt;
    const ssize_t bytes = read(descriptor, part.data(), part.size());
    if (bytes < 0 && errno == EINTR) continue;
    if (bytes <= 0) return text;
    text.append(part.data(), static_cast<std::size_t>(bytes));
  }
}

[[noreturn]] void run_child(int output, const std::function<nlohmann::json()>& work) {
  const std::string text = work().dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  for (std::size_t done = 0; done < text.size();) {
    const ssize_t bytes = write(output, text.data() + done, text.size() - done);
    if (bytes < 0 && errno == EINTR) continue;
    if (bytes <= 0) _exit(1);
    done += static_cast<std::size_t>(bytes);
  }
  _exit(0);
}

}  // namespace

std::optional<nlohmann::json> run_bounded(Duration limit, const std::function<nlohmann::json()>& work) {
  std::array<int, 2> ends{};
  if (pipe(ends.data()) != 0) return std::nullopt;
  FileDescriptor input(ends[0]);
  FileDescriptor output(ends[1]);
  std::fflush(nullptr);
  const pid_t child = fork();
  if (child < 0) return std::nullopt;
  if (child == 0) run_child(output.get(), work);
  output = FileDescriptor();
  const SystemClock clock;
  const std::optional<std::string> text = read_until(input.get(), clock.now() + limit, clock);
  if (!text) kill(child, SIGKILL);
  // A child that cannot die now is left to the process that takes care of orphans.
  waitpid(child, nullptr, text ? 0 : WNOHANG);
  if (!text) return std::nullopt;
  nlohmann::json answer = nlohmann::json::parse(*text, nullptr, false);
  if (answer.is_discarded()) return std::nullopt;
  return answer;
}

}  // namespace corral::doctor
