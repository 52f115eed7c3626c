#include "cluster/tls_links.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "cluster/address.h"
#include "ondisk/endian.h"
#include "ondisk/layout.h"

namespace corral::cluster {

using ondisk::be32;
using ondisk::be64;
using ondisk::view;

namespace {

constexpr std::uint64_t kListener = 0;
constexpr std::size_t kReadBytes = 65536;
/// Events handled before others get their turn.
constexpr int kEventsPerDrain = 64;
/// What a stranger may send before it has said who it is: a handshake and a greeting.
constexpr std::size_t kStrangerBytesMax = 16384;

constexpr std::uint8_t kGreeting = 0xFF;
constexpr std::uint32_t kGreetingMagic = 0x434F524C;  // "CORL"

struct FrameHead {
  be32 length;  ///< of the payload
  std::uint8_t kind;
};
static_assert(sizeof(FrameHead) == 5);

struct Greeting {
  be32 magic;
  be32 version;
  be32 from_node;
  be32 to_node;
  be64 from_incarnation;
  be64 to_incarnation;
};
static_assert(sizeof(Greeting) == 32);

void set_option(int socket, int level, int name, int value) {
  // An option that the system lacks makes the link slower to notice things, no more.
  (void)setsockopt(socket, level, name, &value, sizeof(value));
}

/// A listening socket for both families; for IPv4 alone where the host has no IPv6.
Result<FileDescriptor> listen_on(std::uint16_t port) {
  constexpr int kBacklog = 64;
  for (int family : {AF_INET6, AF_INET}) {
    FileDescriptor socket(::socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (!socket) continue;
    set_option(socket.get(), SOL_SOCKET, SO_REUSEADDR, 1);
    if (family == AF_INET6) set_option(socket.get(), IPPROTO_IPV6, IPV6_V6ONLY, 0);
    const SocketAddress any = SocketAddress::any(family, port);
    const int bound = ::bind(socket.get(), any.get(), any.size());
    if (bound != 0 && errno == EADDRNOTAVAIL && family == AF_INET6) continue;
    if (bound != 0 || ::listen(socket.get(), kBacklog) != 0)
      return fail(errno, "cannot listen on TCP port {}: {}", port, std::strerror(errno));
    return socket;
  }
  return fail(errno, "cannot make a TCP socket: {}", std::strerror(errno));
}

std::uint16_t port_of(int socket) {
  sockaddr_in6 address{};
  socklen_t length = sizeof(address);
  CHECK_INVARIANT(getsockname(socket, reinterpret_cast<sockaddr*>(&address), &length) == 0);
  return ntohs(address.sin6_port);  // at the same place in both families
}

/// Where the other end of a connection is; none if it has broken.
std::optional<Address> peer_address_of(int socket) {
  sockaddr_in6 six{};
  socklen_t length = sizeof(six);
  if (getpeername(socket, reinterpret_cast<sockaddr*>(&six), &length) != 0) return std::nullopt;
  if (six.sin6_family == AF_INET6) return address_of(six.sin6_addr);
  return address_of(reinterpret_cast<const sockaddr_in&>(six).sin_addr);
}

}  // namespace

struct TlsLinks::Connection {
  Connection(std::uint64_t n, FileDescriptor s, const TlsKey& key, TlsStream::Side connection_side)
      : number(n), socket(std::move(s)), side(connection_side), tls(key, connection_side) {}

  std::uint64_t number;
  FileDescriptor socket;
  TlsStream::Side side;
  TlsStream tls;
  Member peer{};             ///< of a client's side from the begin, else once it has said so
  Address address{};         ///< of a client's side: where it connects to
  bool probe = false;        ///< only asks whether anybody listens
  bool refused = false;      ///< nobody does
  bool greeted = false;      ///< our greeting was sent
  bool established = false;  ///< both have said who they are
  bool told = false;         ///< users know of it
  bool broken = false;
  bool watching_writable = false;
  std::size_t stranger_bytes = 0;
  Time deadline{};
  std::vector<std::byte> received;  ///< plain bytes that are no whole frame yet
  std::vector<std::byte> output;
  std::size_t output_sent = 0;
};

struct TlsLinks::PeerState {
  Peer peer;
  std::size_t next_address = 0;
  Time next_attempt{};
  std::uint64_t connection = 0;       ///< established, or (client's side) on its way; 0: none
  std::optional<Address> reached_at;  ///< of the last connection that was established
};

Result<std::unique_ptr<TlsLinks>> TlsLinks::listen(EventLoop& loop, LinkOptions options, Logger log) {
  TRY(FileDescriptor listener, listen_on(options.port));
  FileDescriptor poll(epoll_create1(EPOLL_CLOEXEC));
  if (!poll) return fail(errno, "cannot make an epoll instance: {}", std::strerror(errno));
  epoll_event event{.events = EPOLLIN, .data = {.u64 = kListener}};
  if (epoll_ctl(poll.get(), EPOLL_CTL_ADD, listener.get(), &event) != 0) return fail(errno);
  const std::uint16_t port = port_of(listener.get());
  std::unique_ptr<TlsLinks> links(
      new TlsLinks(loop, options, std::move(log), std::move(listener), std::move(poll), port));
  TRY(links->watch_, loop.watch_readable(links->poll_.get(), [self = links.get()] { return self->drain(); }));
  links->scope_.spawn(links->work());
  return links;
}

TlsLinks::TlsLinks(EventLoop& loop, LinkOptions options, Logger log, FileDescriptor listener, FileDescriptor poll,
                   std::uint16_t port)
    : loop_(loop),
      options_(options),
      log_(std::move(log)),
      key_(options_.cluster, options_.secret),
      listener_(std::move(listener)),
      poll_(std::move(poll)),
      port_(port),
      work_(loop.executor()),
      scope_(loop.executor()) {}

TlsLinks::~TlsLinks() = default;

Link& TlsLinks::open(Member self) {
  CHECK_INVARIANT(!open_);
  self_ = self;
  open_ = true;
  return *this;
}

void TlsLinks::close() {
  open_ = false;
  users_ = {};
  peers_.clear();
  connections_.clear();
}

void TlsLinks::set_peers(std::vector<Peer> peers) {
  std::map<Member, PeerState> kept;
  for (Peer& peer : peers) {
    auto known = peers_.find(peer.member);
    PeerState state = known != peers_.end() ? std::move(known->second) : PeerState{};
    state.peer = std::move(peer);
    kept.emplace(state.peer.member, std::move(state));
  }
  peers_ = std::move(kept);
  for (auto& [number, connection] : connections_) {
    if (connection->peer.incarnation && !peers_.contains(connection->peer))
      fail_connection(*connection, "it is no peer any more");
  }
  work_.notify_all();
}

std::size_t TlsLinks::strangers() const {
  return static_cast<std::size_t>(std::ranges::count_if(
      connections_, [](const auto& entry) { return !entry.second->established && !entry.second->broken; }));
}

bool TlsLinks::send(Member to, LinkChannel channel, std::vector<std::byte> message) {
  CHECK_INVARIANT(message.size() <= kLinkMessageBytesMax);
  auto peer = peers_.find(to);
  if (peer == peers_.end() || peer->second.connection == 0) return false;
  auto found = connections_.find(peer->second.connection);
  if (found == connections_.end()) return false;
  Connection& connection = *found->second;
  if (!connection.told || connection.broken) return false;
  send_frame(connection, static_cast<std::uint8_t>(channel), message);
  if (connection.output.size() - connection.output_sent > kLinkQueueBytesMax)
    fail_connection(connection, "it does not take what is sent to it");
  work_.notify_all();
  return true;
}

void TlsLinks::send_frame(Connection& connection, std::uint8_t kind, std::span<const std::byte> payload) {
  std::vector<std::byte> frame(sizeof(FrameHead) + payload.size());
  view<FrameHead>(frame) = {.length = static_cast<std::uint32_t>(payload.size()), .kind = kind};
  std::ranges::copy(payload, frame.begin() + sizeof(FrameHead));
  connection.tls.send(frame);
  connection.tls.take_output(connection.output);
}

void TlsLinks::send_greeting(Connection& connection) {
  Greeting greeting{.magic = kGreetingMagic,
                    .version = kProtocolVersion,
                    .from_node = self_.node.value,
                    .to_node = connection.peer.node.value,
                    .from_incarnation = self_.incarnation.value,
                    .to_incarnation = connection.peer.incarnation.value};
  connection.greeted = true;
  send_frame(connection, kGreeting, std::as_bytes(std::span(&greeting, 1)));
}

TlsLinks::Connection& TlsLinks::add(FileDescriptor socket, TlsStream::Side side) {
  set_option(socket.get(), IPPROTO_TCP, TCP_NODELAY, 1);
  set_option(socket.get(), IPPROTO_TCP, TCP_USER_TIMEOUT,
             static_cast<int>(options_.stall_timeout / std::chrono::milliseconds(1)));
  const std::uint64_t number = next_number_++;
  auto connection = std::make_unique<Connection>(number, std::move(socket), key_, side);
  connection->deadline = loop_.clock().now() + options_.greeting_timeout;
  connection->tls.take_output(connection->output);
  // A connection under way becomes writable when it stands.
  connection->watching_writable = side == TlsStream::Side::client;
  epoll_event event{.events = EPOLLIN | (connection->watching_writable ? EPOLLOUT : 0u), .data = {.u64 = number}};
  if (epoll_ctl(poll_.get(), EPOLL_CTL_ADD, connection->socket.get(), &event) != 0) connection->broken = true;
  return *connections_.emplace(number, std::move(connection)).first->second;
}

void TlsLinks::accept_all() {
  for (int i = 0; i < kEventsPerDrain; ++i) {
    FileDescriptor socket(accept4(listener_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (!socket) return;
    // More strangers than this, or ones that nobody waits for, are closed at once.
    if (!open_ || strangers() >= kStrangersMax) continue;
    add(std::move(socket), TlsStream::Side::server);
    work_.notify_all();
  }
}

EventLoop::Drained TlsLinks::drain() {
  std::array<epoll_event, kEventsPerDrain> events;
  const int count = epoll_wait(poll_.get(), events.data(), kEventsPerDrain, 0);
  for (int i = 0; i < count; ++i) {
    const epoll_event& event = events[static_cast<std::size_t>(i)];
    // A copy: the kernel's structure is packed.
    const std::uint64_t number = event.data.u64;
    if (number == kListener) {
      accept_all();
      continue;
    }
    auto found = connections_.find(number);
    if (found == connections_.end() || found->second->broken) continue;
    if ((event.events & EPOLLOUT) != 0) {
      if (found->second->probe && (event.events & EPOLLERR) == 0) {
        fail_connection(*found->second, "somebody listens there");
        continue;
      }
      flush(*found->second);
    }
    if ((event.events & (EPOLLIN | EPOLLERR | EPOLLHUP)) == 0) continue;
    // A user's answer to what was received may have closed everything.
    found = connections_.find(number);
    if (found != connections_.end() && !found->second->broken) read_from(*found->second);
  }
  work_.notify_all();
  return count > 0 ? EventLoop::Drained::more : EventLoop::Drained::all;
}

void TlsLinks::read_from(Connection& connection) {
  std::array<std::byte, kReadBytes> bytes;
  const ssize_t got = ::recv(connection.socket.get(), bytes.data(), bytes.size(), 0);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got < 0) return fail_connection(connection, errno);
  if (got == 0) return fail_connection(connection, "it has closed the connection");
  if (!connection.established) {
    connection.stranger_bytes += static_cast<std::size_t>(got);
    if (connection.stranger_bytes > kStrangerBytesMax && connection.side == TlsStream::Side::server)
      return fail_connection(connection, "it says too much before it says who it is");
  }
  const Result<> result =
      connection.tls.receive(std::span(bytes).first(static_cast<std::size_t>(got)), connection.received);
  connection.tls.take_output(connection.output);
  if (!result) return fail_connection(connection, result.error().describe());
  if (connection.side == TlsStream::Side::client && connection.tls.ready() && !connection.greeted)
    send_greeting(connection);
  take_frames(connection);
}

void TlsLinks::take_frames(Connection& connection) {
  const std::uint64_t number = connection.number;
  std::size_t at = 0;
  // What users do with a frame may close this and every connection: looked up anew each time.
  for (;;) {
    auto found = connections_.find(number);
    if (found == connections_.end() || found->second->broken) return;
    std::vector<std::byte>& received = connection.received;
    const std::size_t left = received.size() - at;
    if (left < sizeof(FrameHead)) break;
    const FrameHead head = view<FrameHead>(received, at);
    const std::size_t most = connection.established ? kLinkMessageBytesMax : sizeof(Greeting);
    if (head.length > most)
      return fail_connection(connection, fmt::format("a message of {} bytes", head.length.value()));
    if (left < sizeof(FrameHead) + head.length) break;
    const auto payload = std::span<const std::byte>(received).subspan(at + sizeof(FrameHead), head.length);
    at += sizeof(FrameHead) + head.length;
    if (!connection.established) {
      if (head.kind != kGreeting || !take_greeting(connection, payload)) return;
      continue;
    }
    if (head.kind >= kChannels) return fail_connection(connection, fmt::format("a message of kind {}", head.kind));
    if (LinkUser* user = users_[head.kind]) user->received(connection.peer, payload);
  }
  connection.received.erase(connection.received.begin(), connection.received.begin() + static_cast<std::ptrdiff_t>(at));
}

/// False where the connection is not the one that either side wants; it is broken then.
bool TlsLinks::take_greeting(Connection& connection, std::span<const std::byte> frame) {
  const bool whole = frame.size() == sizeof(Greeting) && view<Greeting>(frame).magic == kGreetingMagic &&
                     view<Greeting>(frame).version == kProtocolVersion;
  if (!whole) return fail_connection(connection, "its greeting is not understood"), false;
  const auto& greeting = view<Greeting>(frame);
  const Member from{NodeId(greeting.from_node), Incarnation(greeting.from_incarnation)};
  const Member to{NodeId(greeting.to_node), Incarnation(greeting.to_incarnation)};
  const bool client = connection.side == TlsStream::Side::client;
  const bool wanted = to == self_ && (client ? from == connection.peer : from.node > self_.node);
  // The peer may know of us before we know of it: it will try again.
  if (!wanted || !peers_.contains(from))
    return fail_connection(connection, from.describe() + " is not expected here"), false;
  connection.peer = from;
  if (!client) send_greeting(connection);
  establish(connection, from);
  return !connection.broken;
}

void TlsLinks::establish(Connection& connection, Member peer) {
  connection.established = true;
  PeerState& state = peers_.at(peer);
  auto older = connections_.find(state.connection);
  if (older != connections_.end() && older->second.get() != &connection) {
    // The peer gave the older one up before we noticed.
    fail_connection(*older->second, "the peer made a new connection");
    if (older->second->told) {
      older->second->told = false;
      tell_users(&LinkUser::disconnected, peer);
    }
  }
  state.connection = connection.number;
  state.reached_at = peer_address_of(connection.socket.get());
  connection.told = true;
  tell_users(&LinkUser::connected, peer);
}

void TlsLinks::tell_users(void (LinkUser::*event)(Member), Member peer) {
  for (LinkUser* user : users_)
    if (user != nullptr) (user->*event)(peer);
}

void TlsLinks::flush(Connection& connection) {
  while (connection.output_sent < connection.output.size()) {
    const ssize_t sent = ::send(connection.socket.get(), connection.output.data() + connection.output_sent,
                                connection.output.size() - connection.output_sent, MSG_NOSIGNAL);
    if (sent < 0 && (errno == EAGAIN || errno == EINTR || errno == ENOTCONN)) return watch_writable(connection, true);
    if (sent < 0) return fail_connection(connection, errno);
    connection.output_sent += static_cast<std::size_t>(sent);
  }
  connection.output.clear();
  connection.output_sent = 0;
  watch_writable(connection, false);
}

void TlsLinks::watch_writable(Connection& connection, bool writable) {
  if (connection.watching_writable == writable) return;
  connection.watching_writable = writable;
  epoll_event event{.events = EPOLLIN | (writable ? EPOLLOUT : 0u), .data = {.u64 = connection.number}};
  if (epoll_ctl(poll_.get(), EPOLL_CTL_MOD, connection.socket.get(), &event) != 0)
    fail_connection(connection, std::strerror(errno));
}

/// Never from within send() tells users: reap() does.
void TlsLinks::fail_connection(Connection& connection, const std::string& why) {
  if (connection.broken) return;
  connection.broken = true;
  if (connection.told) log_.warning("link to {} broke: {}", connection.peer.describe(), why);
  work_.notify_all();
}

void TlsLinks::fail_connection(Connection& connection, int system_error) {
  connection.refused = system_error == ECONNREFUSED;
  fail_connection(connection, std::strerror(system_error));
}

/// To one whose part it is to connect here: asks whether it listens, no more.
void TlsLinks::connect_to(PeerState& state) {
  const Peer& peer = state.peer;
  const bool probe = peer.member.node > self_.node;
  if (probe ? !state.reached_at : peer.addresses.empty()) return;
  const Address address = probe ? *state.reached_at : peer.addresses[state.next_address++ % peer.addresses.size()];
  const SocketAddress there(address, peer.port);
  FileDescriptor socket(::socket(there.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!socket) return;
  const int result = ::connect(socket.get(), there.get(), there.size());
  const int error = result == 0 || errno == EINPROGRESS ? 0 : errno;
  Connection& connection = add(std::move(socket), TlsStream::Side::client);
  connection.peer = peer.member;
  connection.address = address;
  connection.probe = probe;
  if (probe) connection.output.clear();
  state.connection = connection.number;
  if (error != 0) fail_connection(connection, error);
}

/// Takes broken connections away and tells users.
void TlsLinks::reap() {
  std::vector<std::unique_ptr<Connection>> broken;
  for (auto entry = connections_.begin(); entry != connections_.end();) {
    if (entry->second->broken) {
      broken.push_back(std::move(entry->second));
      entry = connections_.erase(entry);
    } else {
      ++entry;
    }
  }
  for (const auto& connection : broken) {
    auto peer = peers_.find(connection->peer);
    if (peer != peers_.end() && peer->second.connection == connection->number) {
      peer->second.connection = 0;
      peer->second.next_attempt = loop_.clock().now();
      if (!connection->told) peer->second.next_attempt += options_.retry_interval;
      // Where it was reached is where to look for it first.
      if (connection->told && peer->second.next_address > 0) --peer->second.next_address;
    }
    const bool refused = connection->refused && peer != peers_.end() && peer->second.reached_at == connection->address;
    if (connection->told) tell_users(&LinkUser::disconnected, connection->peer);
    if (refused) tell_users(&LinkUser::refused, connection->peer);
  }
}

bool TlsLinks::is_ours_to_try(Member member, const PeerState& state) const {
  return open_ && state.connection == 0 && (member.node < self_.node || state.reached_at);
}

Time TlsLinks::next_deadline() const {
  Time next = loop_.clock().now() + options_.greeting_timeout;
  for (const auto& [number, connection] : connections_) {
    if (!connection->established) next = std::min(next, connection->deadline);
  }
  for (const auto& [member, state] : peers_) {
    if (is_ours_to_try(member, state)) next = std::min(next, state.next_attempt);
  }
  return next;
}

/// Sends what waits, gives up what takes too long, connects again.
Task<void> TlsLinks::work() {
  for (;;) {
    const Time now = loop_.clock().now();
    for (auto& [number, connection] : connections_) {
      if (!connection->established && connection->deadline <= now)
        fail_connection(*connection, "it did not say who it is");
      if (!connection->broken && !connection->watching_writable && !connection->output.empty()) flush(*connection);
    }
    for (auto& [member, state] : peers_) {
      if (!is_ours_to_try(member, state) || state.next_attempt > now) continue;
      state.next_attempt = now + options_.retry_interval;
      connect_to(state);
    }
    reap();
    co_await work_.wait_until(next_deadline());
  }
}

}  // namespace corral::cluster
