#include "test/support/tcp_proxy.h"

#include <array>
#include <cerrno>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include "base/check.h"

namespace corral::test {

namespace {
sockaddr_in loopback(std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  return address;
}

/// Closing it then sends a reset.
void make_abortive(int socket) {
  linger setting{.l_onoff = 1, .l_linger = 0};
  setsockopt(socket, SOL_SOCKET, SO_LINGER, &setting, sizeof(setting));
}
}  // namespace

TcpProxy::TcpProxy(std::uint16_t to_port)
    : to_port_(to_port), listener_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  sockaddr_in address = loopback(0);
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  socklen_t length = sizeof(address);
  CHECK_INVARIANT(bind(listener_.get(), generic, length) == 0 && listen(listener_.get(), 16) == 0);
  CHECK_INVARIANT(getsockname(listener_.get(), generic, &length) == 0);
  port_ = ntohs(address.sin_port);
  thread_ = std::thread([this] { run(); });
}

TcpProxy::~TcpProxy() {
  ending_ = true;
  thread_.join();
}

void TcpProxy::cut(bool cut) {
  cut_ = cut;
  // A round that had begun before may not have seen it.
  for (std::uint64_t begun = rounds_; rounds_ < begun + 2;)
    rounds_.wait(rounds_);
}

void TcpProxy::run() {
  constexpr int kLookMs = 10;  // how soon a request of the test is seen
  while (!ending_) {
    bool stall = stall_requested_.exchange(false);
    std::vector<pollfd> polled{{listener_.get(), POLLIN, 0}};
    for (Link& link : links_) {
      link.stalled |= stall;
      polled.push_back({link.client.get(), static_cast<short>(link.stalled ? 0 : POLLIN), 0});
      polled.push_back({link.target.get(), static_cast<short>(link.stalled ? 0 : POLLIN), 0});
    }
    std::size_t known = links_.size();
    poll(polled.data(), polled.size(), kLookMs);
    if (polled[0].revents != 0) accept_client();
    for (std::size_t i = known; i > 0; --i) {
      bool active = polled[2 * i - 1].revents != 0 || polled[2 * i].revents != 0;
      Link& link = links_[i - 1];
      bool keep = !cut_ && (!active || link.stalled || forward(link));
      if (link.stalled && (polled[2 * i - 1].revents & (POLLHUP | POLLERR)) != 0) keep = false;
      if (keep) continue;
      ++resets_;
      links_.erase(links_.begin() + static_cast<std::ptrdiff_t>(i - 1));
    }
    ++rounds_;
    rounds_.notify_all();
  }
}

void TcpProxy::accept_client() {
  Link link;
  link.client = FileDescriptor(accept(listener_.get(), nullptr, nullptr));
  if (!link.client) return;
  make_abortive(link.client.get());
  if (cut_) return;
  link.target = FileDescriptor(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address = loopback(to_port_);
  if (connect(link.target.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) return;
  make_abortive(link.target.get());
  int on = 1;
  setsockopt(link.client.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  setsockopt(link.target.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  links_.push_back(std::move(link));
}

/// False when the connection has come to its end.
bool TcpProxy::forward(Link& link) {
  std::uint64_t back = 0;
  if (!move(link.client.get(), link.target.get(), link.bytes) || !move(link.target.get(), link.client.get(), back))
    return false;
  std::uint64_t most = reset_after_;
  return most == 0 || link.bytes < most;
}

bool TcpProxy::move(int from, int to, std::uint64_t& bytes) {
  std::array<char, 65536> buffer;
  ssize_t came = recv(from, buffer.data(), buffer.size(), MSG_DONTWAIT);
  if (came < 0) return errno == EAGAIN;
  if (came == 0) return false;
  for (ssize_t sent = 0; sent < came;) {
    ssize_t part = send(to, buffer.data() + sent, static_cast<std::size_t>(came - sent), MSG_NOSIGNAL);
    if (part < 0) return false;
    sent += part;
  }
  bytes += static_cast<std::uint64_t>(came);
  return true;
}

}  // namespace corral::test
