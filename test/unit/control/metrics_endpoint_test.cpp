#include "control/metrics_endpoint.h"

#include <thread>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "test/support/catch.h"
#include "test/support/must.h"

using namespace corral;
using test::must;

namespace {

std::uint16_t free_port() {
  FileDescriptor probe(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{.sin_family = AF_INET, .sin_port = 0, .sin_addr = {htonl(INADDR_LOOPBACK)}, .sin_zero = {}};
  socklen_t length = sizeof(address);
  REQUIRE(::bind(probe.get(), reinterpret_cast<sockaddr*>(&address), length) == 0);
  REQUIRE(getsockname(probe.get(), reinterpret_cast<sockaddr*>(&address), &length) == 0);
  return ntohs(address.sin_port);
}

/// Sends the parts one after the other, and returns all that comes until the end.
std::string exchange(std::uint16_t port, const std::vector<std::string>& parts) {
  FileDescriptor socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sockaddr_in address{
      .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}, .sin_zero = {}};
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) return "refused";
  for (const std::string& part : parts)
    (void)::send(socket.get(), part.data(), part.size(), MSG_NOSIGNAL);
  std::string text;
  char buffer[4096];
  for (;;) {
    const ssize_t got = ::recv(socket.get(), buffer, sizeof(buffer), 0);
    if (got <= 0) return text;
    text.append(buffer, static_cast<std::size_t>(got));
  }
}

std::vector<std::string> answers(const std::vector<std::vector<std::string>>& requests) {
  EventLoop loop;
  NullLogSink log;
  const std::uint16_t port = free_port();
  const auto endpoint = must(MetricsEndpoint::listen(
      loop, must(MetricsAddress::parse(fmt::format("127.0.0.1:{}", port))), [] { return "corral_slot 3\n# EOF\n"; },
      Logger(log)));
  std::vector<std::string> answers;
  std::thread client([&] {
    for (const auto& request : requests)
      answers.push_back(exchange(port, request));
    loop.post([&loop] { loop.stop(); });
  });
  loop.run();
  client.join();
  return answers;
}

}  // namespace

TEST_CASE("metrics are given to who asks for them over HTTP, in however many pieces") {
  const auto got = answers({{"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"},
                            {"GET /met", "rics HTTP/1.0\r\n", "\r\n"},
                            {"HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n"}});
  CHECK(got[0].starts_with("HTTP/1.1 200 OK\r\n"));
  CHECK(got[0].find("Content-Type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n") !=
        std::string::npos);
  CHECK(got[0].ends_with("\r\n\r\ncorral_slot 3\n# EOF\n"));
  CHECK(got[1].ends_with("\r\n\r\ncorral_slot 3\n# EOF\n"));
  CHECK(got[2].starts_with("HTTP/1.1 200 OK\r\n"));
  CHECK(got[2].ends_with("\r\n\r\n"));
}

TEST_CASE("what is no small GET for metrics gets an error") {
  const auto got = answers({{"GET / HTTP/1.1\r\n\r\n"},
                            {"POST /metrics HTTP/1.1\r\nContent-Length: 0\r\n\r\n"},
                            {"nonsense\r\n\r\n"},
                            {"GET /metrics HTTP/1.1\r\nX: " + std::string(100'000, 'x')},
                            {std::string(64, '\0')}});
  CHECK(got[0].starts_with("HTTP/1.1 404 "));
  CHECK(got[1].starts_with("HTTP/1.1 405 "));
  CHECK(got[2].starts_with("HTTP/1.1 400 "));
  // The rest of it may meet a connection that is closed already, which takes the answer along.
  CHECK((got[3].empty() || got[3].starts_with("HTTP/1.1 400 ")));
  CHECK(got[4].starts_with("HTTP/1.1 400 "));
}

TEST_CASE("addresses to listen on") {
  CHECK(must(MetricsAddress::parse("9101")).host.empty());
  CHECK(must(MetricsAddress::parse(":9101")).port == "9101");
  CHECK(must(MetricsAddress::parse("[::1]:9101")).host == "::1");
  for (const char* bad : {"", "x", "127.0.0.1", "127.0.0.1:", "host:9101", "127.0.0.1:0", "127.0.0.1:70000", "1:2:3:4"})
    CHECK_FALSE(MetricsAddress::parse(bad));
}
