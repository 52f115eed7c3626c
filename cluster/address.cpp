#include "cluster/address.h"

#include <algorithm>
#include <array>
#include <cstring>

#include <arpa/inet.h>

namespace corral::cluster {

namespace {
constexpr std::array<std::uint8_t, 12> kIpv4Prefix{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF};

const std::uint8_t* ipv4_bytes(const Address& address) {
  return address.data() + kIpv4Prefix.size();
}
}  // namespace

Address address_of(const in_addr& address) {
  Address result{};
  std::ranges::copy(kIpv4Prefix, result.begin());
  std::memcpy(result.data() + kIpv4Prefix.size(), &address, sizeof(address));
  return result;
}

Address address_of(const in6_addr& address) {
  Address result{};
  std::memcpy(result.data(), &address, sizeof(address));
  return result;
}

bool is_ipv4(const Address& address) {
  return std::equal(kIpv4Prefix.begin(), kIpv4Prefix.end(), address.begin());
}

std::string describe_address(const Address& address) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  const bool four = is_ipv4(address);
  inet_ntop(four ? AF_INET : AF_INET6, four ? ipv4_bytes(address) : address.data(), text.data(), text.size());
  return text.data();
}

SocketAddress SocketAddress::any(int family, std::uint16_t port) {
  SocketAddress result;
  result.storage_.ss_family = static_cast<sa_family_t>(family);
  // The port is at the same place in both families.
  reinterpret_cast<sockaddr_in&>(result.storage_).sin_port = htons(port);
  return result;
}

SocketAddress::SocketAddress(const Address& address, std::uint16_t port)
    : SocketAddress(any(is_ipv4(address) ? AF_INET : AF_INET6, port)) {
  if (family() == AF_INET) {
    std::memcpy(&reinterpret_cast<sockaddr_in&>(storage_).sin_addr, ipv4_bytes(address), sizeof(in_addr));
  } else {
    std::memcpy(&reinterpret_cast<sockaddr_in6&>(storage_).sin6_addr, address.data(), address.size());
  }
}

const sockaddr* SocketAddress::get() const {
  return reinterpret_cast<const sockaddr*>(&storage_);
}

socklen_t SocketAddress::size() const {
  return family() == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
}

}  // namespace corral::cluster
