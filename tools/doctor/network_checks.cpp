#include "tools/doctor/network_checks.h"

#include <algorithm>
#include <cstring>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <poll.h>
#include <sys/socket.h>

#include "base/file_descriptor.h"
#include "cluster/address.h"
#include "node/cluster_mount.h"

namespace corral::doctor {

namespace {

FileDescriptor open_socket(int family) {
  return FileDescriptor(::socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
}

int local_family(int socket) {
  int family = AF_INET;
  socklen_t length = sizeof(family);
  getsockopt(socket, SOL_SOCKET, SO_DOMAIN, &family, &length);
  return family;
}

struct Attempt {
  std::size_t peer;
  cluster::Address address;
  FileDescriptor socket;
  int error = EINPROGRESS;
};

Attempt start(std::size_t peer, const cluster::Address& address, std::uint16_t port) {
  const cluster::SocketAddress to(address, port);
  Attempt attempt{.peer = peer, .address = address, .socket = open_socket(to.family())};
  if (!attempt.socket)
    attempt.error = errno;
  else if (connect(attempt.socket.get(), to.get(), to.size()) == 0)
    attempt.error = 0;
  else
    attempt.error = errno;
  return attempt;
}

void wait_for(std::vector<Attempt>& attempts, Duration limit) {
  const SystemClock clock;
  const Time deadline = clock.now() + limit;
  for (;;) {
    std::vector<pollfd> waiting;
    for (const Attempt& attempt : attempts)
      if (attempt.error == EINPROGRESS)
        waiting.push_back({.fd = attempt.socket.get(), .events = POLLOUT, .revents = 0});
    const auto left = (deadline - clock.now()) / std::chrono::milliseconds(1);
    if (waiting.empty() || left <= 0 || poll(waiting.data(), waiting.size(), static_cast<int>(left)) <= 0) break;
    for (Attempt& attempt : attempts) {
      const auto ready = std::ranges::find_if(
          waiting, [&](const pollfd& one) { return one.fd == attempt.socket.get() && one.revents != 0; });
      if (attempt.error != EINPROGRESS || ready == waiting.end()) continue;
      socklen_t length = sizeof(attempt.error);
      getsockopt(attempt.socket.get(), SOL_SOCKET, SO_ERROR, &attempt.error, &length);
    }
  }
  for (Attempt& attempt : attempts)
    if (attempt.error == EINPROGRESS) attempt.error = ETIMEDOUT;
}

void tell(const Peer& peer, std::size_t index, const std::vector<Attempt>& attempts, Findings& findings) {
  std::vector<std::string> failures;
  for (const Attempt& attempt : attempts) {
    if (attempt.peer != index) continue;
    const std::string where = fmt::format("{} port {}", cluster::describe_address(attempt.address), peer.port);
    if (attempt.error == 0) return findings.good("peers", fmt::format("node {} answers at {}", peer.name, where));
    failures.push_back(fmt::format("{}: {}", where, std::strerror(attempt.error)));
  }
  findings.problem(
      "peers", fmt::format("node {} cannot be reached: {}", peer.name, fmt::join(failures, "; ")),
      "open the port in the firewalls of both hosts; a node with several networks is mounted with -o addr=");
}

}  // namespace

void check_addresses(Findings& findings) {
  const auto addresses = addresses_of_host();
  if (!addresses) return findings.problem("addresses", addresses.error().describe(), "mount with -o addr=ADDRESS");
  std::vector<std::string> texts;
  for (const cluster::Address& address : *addresses)
    texts.push_back(cluster::describe_address(address));
  if (texts.size() == 1 && texts.front() == "::1")
    findings.warn("addresses", "this host has none but the loopback's: only nodes of this host can reach it",
                  "bring up the network, or mount with -o addr=ADDRESS");
  else
    findings.good("addresses", fmt::format("other nodes are told: {}", fmt::join(texts, ", ")));
}

void check_port(std::uint16_t port, bool used_here, Findings& findings) {
  // A socket of the later family takes connections of both, where the kernel has it.
  FileDescriptor socket = open_socket(AF_INET6);
  if (!socket) socket = open_socket(AF_INET);
  const int family = socket ? local_family(socket.get()) : AF_INET;
  const cluster::SocketAddress any = cluster::SocketAddress::any(family, port);
  const int on = 1;
  if (socket) setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  const bool bound = socket && bind(socket.get(), any.get(), any.size()) == 0 && listen(socket.get(), 1) == 0;
  if (bound) return findings.good("port", fmt::format("TCP port {} is free here", port));
  const int error = errno;
  if (error == EADDRINUSE && used_here)
    return findings.note("port", fmt::format("TCP port {} is in use on this host, where a volume is mounted", port),
                         "another mount here needs -o port=N");
  findings.problem("port", fmt::format("TCP port {} cannot be listened on: {}", port, std::strerror(error)),
                   error == EADDRINUSE
                       ? "ss -ltnp shows who has it; mount with -o port=N, or corral config set DEVICE port"
                       : "mount with -o port=N, or corral config set DEVICE port");
}

void check_peers(const std::vector<Peer>& peers, Duration limit, Findings& findings) {
  std::vector<Attempt> attempts;
  for (std::size_t i = 0; i < peers.size(); ++i)
    for (const cluster::Address& address : peers[i].addresses)
      attempts.push_back(start(i, address, peers[i].port));
  wait_for(attempts, limit);
  for (std::size_t i = 0; i < peers.size(); ++i)
    tell(peers[i], i, attempts, findings);
}

}  // namespace corral::doctor
