#include "control/control_socket.h"

#include <array>
#include <cstring>
#include <filesystem>

#include <nlohmann/json.hpp>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "control/unix_address.h"

namespace corral {

namespace {
namespace filesystem = std::filesystem;
using nlohmann::json;

constexpr std::uint64_t kListener = 0;
constexpr int kEventsPerDrain = 16;
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
  FileDescriptor poll(epoll_create1(EPOLL_CLOEXEC));
  if (!poll) return fail(errno, "cannot make an epoll instance: {}", std::strerror(errno));
  epoll_event event{.events = EPOLLIN, .data = {.u64 = kListener}};
  if (epoll_ctl(poll.get(), EPOLL_CTL_ADD, listener.get(), &event) != 0) return fail(errno);
  std::unique_ptr<ControlSocket> socket(
      new ControlSocket(std::move(path), std::move(answer), std::move(log), std::move(listener), std::move(poll)));
  TRY(socket->watch_, loop.watch_readable(socket->poll_.get(), [self = socket.get()] { return self->drain(); }));
  return socket;
}

ControlSocket::ControlSocket(std::string path, Answer answer, Logger log, FileDescriptor listener, FileDescriptor poll)
    : path_(std::move(path)),
      answer_(std::move(answer)),
      log_(std::move(log)),
      listener_(std::move(listener)),
      poll_(std::move(poll)) {}

ControlSocket::~ControlSocket() {
  watch_.reset();
  ::unlink(path_.c_str());
}

EventLoop::Drained ControlSocket::drain() {
  std::array<epoll_event, kEventsPerDrain> events;
  const int count = epoll_wait(poll_.get(), events.data(), kEventsPerDrain, 0);
  for (int i = 0; i < count; ++i) {
    // A copy: the kernel's structure is packed.
    const std::uint64_t number = events[static_cast<std::size_t>(i)].data.u64;
    if (number == kListener) {
      accept_all();
    } else {
      serve(number);
    }
  }
  return count > 0 ? EventLoop::Drained::more : EventLoop::Drained::all;
}

void ControlSocket::accept_all() {
  for (int i = 0; i < kEventsPerDrain; ++i) {
    FileDescriptor socket(accept4(listener_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (!socket) return;
    if (clients_.size() >= kMostClients) {
      log_.debug("control socket: more than {} clients: one is refused", kMostClients);
      continue;
    }
    const std::uint64_t number = next_number_++;
    epoll_event event{.events = EPOLLIN, .data = {.u64 = number}};
    if (epoll_ctl(poll_.get(), EPOLL_CTL_ADD, socket.get(), &event) == 0) clients_[number].socket = std::move(socket);
  }
}

void ControlSocket::serve(std::uint64_t number) {
  auto found = clients_.find(number);
  if (found == clients_.end()) return;
  Client& client = found->second;
  bool lives = send(client);
  if (lives && client.output.empty()) {
    if (client.input.find('\n') == std::string::npos) lives = receive(client);
    answer_lines(client);
    lives = send(client) && lives;
  }
  if (!lives || (client.closing && client.output.empty())) {
    clients_.erase(found);
    return;
  }
  watch(number, client);
}

/// False when the client has gone.
bool ControlSocket::receive(Client& client) const {
  std::array<char, kMostRequestBytes> bytes;
  const ssize_t got = ::recv(client.socket.get(), bytes.data(), bytes.size(), 0);
  if (got < 0) return errno == EAGAIN || errno == EINTR;
  client.input.append(bytes.data(), static_cast<std::size_t>(got));
  return got > 0;
}

/// False when the client has gone.
bool ControlSocket::send(Client& client) const {
  while (client.sent < client.output.size()) {
    const ssize_t sent = ::send(client.socket.get(), client.output.data() + client.sent,
                                client.output.size() - client.sent, MSG_NOSIGNAL);
    if (sent < 0) return errno == EAGAIN || errno == EINTR;
    client.sent += static_cast<std::size_t>(sent);
  }
  client.output.clear();
  client.sent = 0;
  return true;
}

/// One line at a time, so that what an answer takes in memory is bounded; the next when this one has been sent.
void ControlSocket::answer_lines(Client& client) const {
  const std::size_t end = client.input.find('\n');
  if (end != std::string::npos && end <= kMostRequestBytes) {
    client.output = answer_to(std::string_view(client.input).substr(0, end));
    client.input.erase(0, end + 1);
  } else if (client.input.size() > kMostRequestBytes) {
    client.output = refusal(fmt::format("a request has at most {} bytes", kMostRequestBytes));
    client.closing = true;
  }
}

std::string ControlSocket::answer_to(std::string_view line) const {
  const json request = json::parse(line, nullptr, false);
  if (!request.is_object()) return refusal("a request is a JSON object on one line");
  auto answer = answer_(request);
  if (!answer) return refusal(answer.error().describe());
  (*answer)["ok"] = true;
  return to_line(*answer);
}

void ControlSocket::watch(std::uint64_t number, const Client& client) const {
  // A whole line that waits in memory is served as soon as the answer before it is out.
  const bool busy = !client.output.empty() || client.input.find('\n') != std::string::npos;
  epoll_event event{.events = busy ? EPOLLOUT : EPOLLIN, .data = {.u64 = number}};
  if (epoll_ctl(poll_.get(), EPOLL_CTL_MOD, client.socket.get(), &event) != 0)
    log_.warning("control socket: {}", std::strerror(errno));
}

}  // namespace corral
