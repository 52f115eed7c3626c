#include "control/control_client.h"

#include <array>
#include <cstring>
#include <functional>

#include <sys/time.h>

#include "base/file_descriptor.h"
#include "control/unix_address.h"

namespace corral {

namespace {
/// Beyond what any mount's locks take.
constexpr std::size_t kMostAnswerBytes = std::size_t{1} << 30;

void set_limits(int socket, std::chrono::milliseconds limit) {
  const timeval time{.tv_sec = limit.count() / 1000, .tv_usec = limit.count() % 1000 * 1000};
  // Connecting counts as sending.
  for (int option : {SO_RCVTIMEO, SO_SNDTIMEO})
    ::setsockopt(socket, SOL_SOCKET, option, &time, sizeof(time));
}

std::unexpected<Error> failed(const std::string& path, int code) {
  if (code == EAGAIN || code == EINPROGRESS)
    return fail(ETIMEDOUT, "{}: the mount's process does not answer: it hangs, or is stopped", path);
  if (code == ENOENT || code == ECONNREFUSED) return fail(code, "{}: no process serves the mount", path);
  return fail(code, "{}: {}", path, std::strerror(code));
}

/// Called when nothing has come for the limit's time: success to wait on.
using Patience = std::function<Result<>()>;

Result<std::string> receive_line(int socket, const std::string& path, const Patience& patience) {
  std::string line;
  std::array<char, 65536> bytes;
  for (;;) {
    const ssize_t got = ::recv(socket, bytes.data(), bytes.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) {
      TRY_VOID(patience());
      continue;
    }
    if (got < 0) return failed(path, errno);
    if (got == 0) return fail(EPROTO, "{}: the mount's process has closed the connection", path);
    line.append(bytes.data(), static_cast<std::size_t>(got));
    if (line.back() == '\n') return line;
    if (line.size() > kMostAnswerBytes) return fail(EPROTO, "{}: the answer has no end", path);
  }
}

Result<nlohmann::json> exchange(const std::string& socket_path, const nlohmann::json& request,
                                std::chrono::milliseconds limit, const Patience& patience) {
  TRY(UnixAddress address, UnixAddress::of(socket_path));
  FileDescriptor socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket) return failed(socket_path, errno);
  set_limits(socket.get(), limit);
  if (::connect(socket.get(), address.get(), address.length()) != 0) return failed(socket_path, errno);
  const std::string line = request.dump() + '\n';
  if (::send(socket.get(), line.data(), line.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(line.size()))
    return failed(socket_path, errno);
  TRY(const std::string text, receive_line(socket.get(), socket_path, patience));
  nlohmann::json answer = nlohmann::json::parse(text, nullptr, false);
  if (!answer.is_object() || !answer.contains("ok"))
    return fail(EPROTO, "{}: the answer of the mount's process makes no sense", socket_path);
  if (answer["ok"] != true) return fail(EINVAL, "{}", answer.value("error", "the mount's process refuses"));
  answer.erase("ok");
  return answer;
}

}  // namespace

Result<nlohmann::json> ask_mount(const std::string& socket_path, const nlohmann::json& request,
                                 std::chrono::milliseconds limit) {
  return exchange(socket_path, request, limit, [&] { return Result<>(failed(socket_path, EAGAIN)); });
}

Result<nlohmann::json> command_mount(const std::string& socket_path, const nlohmann::json& request,
                                     std::chrono::milliseconds limit) {
  return exchange(socket_path, request, limit, [&]() -> Result<> {
    const auto sign_of_life = ask_mount(socket_path, {{"command", "status"}}, limit);
    // Whatever it answers, it does.
    if (sign_of_life || sign_of_life.error().code() == EINVAL) return {};
    return std::unexpected(sign_of_life.error());
  });
}

}  // namespace corral
