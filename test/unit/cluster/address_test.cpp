#include "cluster/address.h"

#include <arpa/inet.h>

#include "test/support/catch.h"

using namespace corral;
using namespace corral::cluster;

namespace {
Address four(const char* text) {
  in_addr parsed{};
  REQUIRE(inet_pton(AF_INET, text, &parsed) == 1);
  return address_of(parsed);
}

Address six(const char* text) {
  in6_addr parsed{};
  REQUIRE(inet_pton(AF_INET6, text, &parsed) == 1);
  return address_of(parsed);
}
}  // namespace

TEST_CASE("an IPv4 address is kept as IPv6 has it", "[cluster][address]") {
  CHECK(four("192.0.2.7") == six("::ffff:192.0.2.7"));
  CHECK(is_ipv4(four("192.0.2.7")));
  CHECK_FALSE(is_ipv4(six("2001:db8::7")));
  CHECK_FALSE(is_ipv4(Address{}));
}

TEST_CASE("addresses are told as people write them", "[cluster][address]") {
  CHECK(describe_address(four("192.0.2.7")) == "192.0.2.7");
  CHECK(describe_address(six("2001:db8::7")) == "2001:db8::7");
  CHECK(describe_address(six("::1")) == "::1");
}

TEST_CASE("a socket's address is of the family of the address", "[cluster][address]") {
  const SocketAddress v4(four("192.0.2.7"), 7007);
  REQUIRE(v4.family() == AF_INET);
  const auto& in4 = *reinterpret_cast<const sockaddr_in*>(v4.get());
  CHECK(v4.size() == sizeof(in4));
  CHECK(ntohs(in4.sin_port) == 7007);
  CHECK(ntohl(in4.sin_addr.s_addr) == 0xC0000207);

  const SocketAddress v6(six("2001:db8::7"), 7007);
  REQUIRE(v6.family() == AF_INET6);
  const auto& in6 = *reinterpret_cast<const sockaddr_in6*>(v6.get());
  CHECK(v6.size() == sizeof(in6));
  CHECK(ntohs(in6.sin6_port) == 7007);
  CHECK(address_of(in6.sin6_addr) == six("2001:db8::7"));

  const SocketAddress any = SocketAddress::any(AF_INET, 7007);
  CHECK(reinterpret_cast<const sockaddr_in*>(any.get())->sin_addr.s_addr == htonl(INADDR_ANY));
}
