#include "control/stream_server.h"

#include <algorithm>
#include <array>
#include <cstring>

#include <sys/epoll.h>
#include <sys/socket.h>

namespace corral {

namespace {
constexpr std::uint64_t kListener = 0;
constexpr int kEventsPerDrain = 16;
constexpr std::size_t kReadBytes = 4096;
}  // namespace

Result<std::unique_ptr<StreamServer>> StreamServer::start(EventLoop& loop, FileDescriptor listener, Protocol protocol,
                                                          Logger log) {
  FileDescriptor poll(epoll_create1(EPOLL_CLOEXEC));
  if (!poll) return fail(errno, "cannot make an epoll instance: {}", std::strerror(errno));
  epoll_event event{.events = EPOLLIN, .data = {.u64 = kListener}};
  if (epoll_ctl(poll.get(), EPOLL_CTL_ADD, listener.get(), &event) != 0) return fail(errno);
  std::unique_ptr<StreamServer> server(
      new StreamServer(std::move(listener), std::move(poll), std::move(protocol), std::move(log)));
  TRY(server->watch_, loop.watch_readable(server->poll_.get(), [self = server.get()] { return self->drain(); }));
  return server;
}

StreamServer::StreamServer(FileDescriptor listener, FileDescriptor poll, Protocol protocol, Logger log)
    : listener_(std::move(listener)), poll_(std::move(poll)), protocol_(std::move(protocol)), log_(std::move(log)) {}

StreamServer::~StreamServer() {
  for (auto& [number, client] : clients_)
    client.talk.gone.request_stop();
}

EventLoop::Drained StreamServer::drain() {
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

void StreamServer::accept_all() {
  for (int i = 0; i < kEventsPerDrain; ++i) {
    FileDescriptor socket(accept4(listener_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (!socket) return;
    if (clients_.size() >= kMostClients) make_room();
    const std::uint64_t number = next_number_++;
    epoll_event event{.events = EPOLLIN, .data = {.u64 = number}};
    if (epoll_ctl(poll_.get(), EPOLL_CTL_ADD, socket.get(), &event) != 0) continue;
    Client& client = clients_[number];
    client.socket = std::move(socket);
    client.talk.client = number;
  }
}

void StreamServer::make_room() {
  auto oldest = std::ranges::find_if(clients_, [](const auto& item) { return !item.second.talk.pending; });
  drop(oldest == clients_.end() ? clients_.begin()->first : oldest->first);
}

void StreamServer::drop(std::uint64_t number) {
  auto found = clients_.extract(number);
  if (found) found.mapped().talk.gone.request_stop();
}

void StreamServer::serve(std::uint64_t number) {
  auto found = clients_.find(number);
  if (found == clients_.end()) return;
  Client& client = found->second;
  // While an answer is pending nothing is watched for but the client's end.
  bool lives = !client.talk.pending && send(client);
  if (lives && client.talk.output.empty()) {
    if (client.talk.waiting) lives = receive(client);
    protocol_(client.talk);
    lives = send(client) && lives;
  }
  const bool finished = client.talk.closing && client.talk.output.empty() && !client.talk.pending;
  if (!lives || finished) return drop(number);
  watch(number, client);
}

void StreamServer::answer(std::uint64_t number, std::string output) {
  auto found = clients_.find(number);
  if (found == clients_.end()) return;
  Client& client = found->second;
  client.talk.pending = false;
  client.talk.output = std::move(output);
  // At once, for the server may not live to see the socket writable. A failure is noticed when it is served next.
  static_cast<void>(send(client));
  watch(number, client);
}

/// False when the client has gone.
bool StreamServer::receive(Client& client) {
  std::array<char, kReadBytes> bytes;
  const ssize_t got = ::recv(client.socket.get(), bytes.data(), bytes.size(), 0);
  if (got < 0) return errno == EAGAIN || errno == EINTR;
  client.talk.input.append(bytes.data(), static_cast<std::size_t>(got));
  return got > 0;
}

/// False when the client has gone.
bool StreamServer::send(Client& client) {
  while (client.sent < client.talk.output.size()) {
    const ssize_t sent = ::send(client.socket.get(), client.talk.output.data() + client.sent,
                                client.talk.output.size() - client.sent, MSG_NOSIGNAL);
    if (sent < 0) return errno == EAGAIN || errno == EINTR;
    client.sent += static_cast<std::size_t>(sent);
  }
  client.talk.output.clear();
  client.sent = 0;
  return true;
}

void StreamServer::watch(std::uint64_t number, const Client& client) const {
  // A whole request that waits in memory is served as soon as the answer before it is out.
  const bool busy = !client.talk.output.empty() || !client.talk.waiting;
  // Of a client that has gone the kernel tells unasked, but not of one that has closed its sending side only.
  const std::uint32_t wanted = client.talk.pending ? EPOLLRDHUP : busy ? EPOLLOUT : EPOLLIN;
  epoll_event event{.events = wanted, .data = {.u64 = number}};
  if (epoll_ctl(poll_.get(), EPOLL_CTL_MOD, client.socket.get(), &event) != 0)
    log_.warning("a client of a socket is lost: {}", std::strerror(errno));
}

}  // namespace corral
