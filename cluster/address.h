/// IP addresses of nodes as the cluster area keeps them: 16 bytes, an IPv4 one as IPv6 has it (::ffff:a.b.c.d, RFC
/// 4291).
#pragma once

#include <string>

#include <netinet/in.h>
#include <sys/socket.h>

#include "cluster/area_format.h"

namespace corral::cluster {

Address address_of(const in_addr& address);
Address address_of(const in6_addr& address);

/// Whether it stands for an IPv4 address.
bool is_ipv4(const Address& address);

/// "192.0.2.1" or "2001:db8::1".
std::string describe_address(const Address& address);

/// An address and a TCP port, as sockets want them: of the family that the address is of.
class SocketAddress {
 public:
  SocketAddress(const Address& address, std::uint16_t port);
  /// Every address of this host, of one family: AF_INET or AF_INET6.
  static SocketAddress any(int family, std::uint16_t port);

  int family() const { return storage_.ss_family; }
  const sockaddr* get() const;
  socklen_t size() const;

 private:
  SocketAddress() = default;
  sockaddr_storage storage_{};
};

}  // namespace corral::cluster
