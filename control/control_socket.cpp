#include "control/control_socket.h"

#include <cstring>
#include <filesystem>

#include <nlohmann/json.hpp>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "control/unix_address.h"

namespace corral {

namespace {
namespace filesystem = std::filesystem;
using nlohmann::json;

constexpr int kBacklog = 16;
constexpr std::string_view kSuffix = ".sock";

std::string to_line(const json& answer) {
  // Names on a volume may be any bytes.
  return answer.dump(-1, ' ', false, json::error_handler_t::replace) + '\n';
}

std::string refusal(const std::string& message) {
  return to_line({{"ok", false}, {"error", message}});
}

/// Nobody listens there any more.
bool is_abandoned(const std::string& path) {
  Result<UnixAddress> address = UnixAddress::of(path);
  FileDescriptor probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!address || !probe) return false;
  return ::connect(probe.get(), address->get(), address->length()) != 0 && errno == ECONNREFUSED;
}

void remove_abandoned(const filesystem::path& folder) {
  std::error_code ignored;
  for (const auto& entry : filesystem::directory_iterator(folder, ignored)) {
    if (entry.path().extension() == kSuffix && is_abandoned(entry.path())) filesystem::remove(entry.path(), ignored);
  }
}

Result<FileDescriptor> bind_and_listen(const std::string& path) {
  TRY(UnixAddress address, UnixAddress::of(path));
  FileDescriptor listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!listener) return fail(errno, "cannot make a socket: {}", std::strerror(errno));
  // Nobody can connect before listen(), so nobody does while the mode is still another.
  if (::bind(listener.get(), address.get(), address.length()) != 0 || ::chmod(path.c_str(), 0600) != 0 ||
      ::listen(listener.get(), kBacklog) != 0)
    return fail(errno, "{}: cannot listen: {}", path, std::strerror(errno));
  return listener;
}
}  // namespace

std::string control_socket_path(std::uint32_t device_major, std::uint32_t device_minor) {
  return fmt::format("{}/{}:{}{}", kControlFolder, device_major, device_minor, kSuffix);
}

Result<std::unique_ptr<ControlSocket>> ControlSocket::listen(EventLoop& loop, std::string path, Answer answer,
                                                             Logger log) {
  const filesystem::path folder = filesystem::path(path).parent_path();
  std::error_code error;
  filesystem::create_directories(folder, error);
  if (error) return fail(error.value(), "{}: {}", folder.string(), error.message());
  remove_abandoned(folder);
  TRY(FileDescriptor listener, bind_and_listen(path));
  std::unique_ptr<ControlSocket> socket(new ControlSocket(loop.executor(), std::move(path), std::move(answer)));
  TRY(socket->server_,
      StreamServer::start(
          loop, std::move(listener),
          [self = socket.get()](StreamServer::Conversation& talk) { self->answer_line(talk); }, std::move(log)));
  return socket;
}

ControlSocket::~ControlSocket() {
  server_.reset();
  ::unlink(path_.c_str());
}

/// One line at a time, so that what an answer takes in memory is bounded; the next when this one has been sent.
void ControlSocket::answer_line(StreamServer::Conversation& talk) {
  const std::size_t end = talk.input.find('\n');
  if (end != std::string::npos && end <= kMostRequestBytes) {
    std::string line = talk.input.substr(0, end);
    talk.input.erase(0, end + 1);
    talk.pending = true;
    // An answer that need not wait is there when this returns.
    answers_.spawn(answer_to(std::move(line), talk.client, talk.gone.get_token()));
  } else if (talk.input.size() > kMostRequestBytes) {
    talk.output = refusal(fmt::format("a request has at most {} bytes", kMostRequestBytes));
    talk.closing = true;
  }
  talk.waiting = talk.input.find('\n') == std::string::npos;
}

Task<void> ControlSocket::answer_to(std::string line, std::uint64_t client, std::stop_token stop) {
  json request = json::parse(line, nullptr, false);
  if (!request.is_object()) {
    server_->answer(client, refusal("a request is a JSON object on one line"));
    co_return;
  }
  auto answer = co_await answer_(std::move(request), std::move(stop));
  if (answer) (*answer)["ok"] = true;
  server_->answer(client, answer ? to_line(*answer) : refusal(answer.error().describe()));
}

}  // namespace corral
