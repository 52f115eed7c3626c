#include "control/metrics_endpoint.h"

#include <cstring>
#include <sstream>

#include <boost/beast/http/empty_body.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <boost/beast/http/write.hpp>
#include <netdb.h>
#include <sys/socket.h>

#include "base/parse_number.h"

namespace corral {

namespace {
namespace http = boost::beast::http;

constexpr std::size_t kMostRequestBytes = 8192;
constexpr int kBacklog = 16;
constexpr const char* kContentType = "application/openmetrics-text; version=1.0.0; charset=utf-8";

using Addresses = std::unique_ptr<addrinfo, decltype(&freeaddrinfo)>;

Result<Addresses> resolve(const MetricsAddress& address) {
  addrinfo hints{};
  hints.ai_flags = AI_PASSIVE | AI_NUMERICHOST | AI_NUMERICSERV;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int code =
      getaddrinfo(address.host.empty() ? nullptr : address.host.c_str(), address.port.c_str(), &hints, &found);
  if (code != 0) return fail(EINVAL, "{} is no IPv4 or IPv6 address", address.host);
  return Addresses(found, freeaddrinfo);
}

http::response<http::string_body> response_to(const http::request<http::empty_body>& request,
                                              const MetricsEndpoint::Text& text) {
  http::response<http::string_body> response(http::status::ok, 11);
  if (request.method() != http::verb::get && request.method() != http::verb::head) {
    response.result(http::status::method_not_allowed);
  } else if (request.target() != "/metrics") {
    response.result(http::status::not_found);
    response.body() = "There is only /metrics here.\n";
  } else {
    response.set(http::field::content_type, kContentType);
    response.body() = text();
  }
  response.prepare_payload();
  if (request.method() == http::verb::head) response.body().clear();
  return response;
}
}  // namespace

Result<MetricsAddress> MetricsAddress::parse(const std::string& text) {
  const std::size_t colon = text.rfind(':');
  MetricsAddress address{.host = colon == std::string::npos ? "" : text.substr(0, colon),
                         .port = colon == std::string::npos ? text : text.substr(colon + 1)};
  if (address.host.starts_with('[') && address.host.ends_with(']'))
    address.host = address.host.substr(1, address.host.size() - 2);
  const auto port = parse_number<std::uint16_t>(address.port);
  if (!port || *port == 0 || !resolve(address))
    return fail(EINVAL, "{} is no address to listen on: there are 9101, 192.0.2.1:9101, [2001:db8::1]:9101", text);
  return address;
}

Result<std::unique_ptr<MetricsEndpoint>> MetricsEndpoint::listen(EventLoop& loop, const MetricsAddress& address,
                                                                 Text text, Logger log) {
  TRY(Addresses found, resolve(address));
  FileDescriptor listener(::socket(found->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  const int reuse = 1;
  if (!listener || setsockopt(listener.get(), SOL_SOCKET, SO_REUSEADDR, &reuse, sizeof(reuse)) != 0 ||
      ::bind(listener.get(), found->ai_addr, found->ai_addrlen) != 0 || ::listen(listener.get(), kBacklog) != 0)
    return fail(errno, "cannot listen on {}:{} for metrics: {}", address.host, address.port, std::strerror(errno));
  std::unique_ptr<MetricsEndpoint> endpoint(new MetricsEndpoint(std::move(text)));
  TRY(endpoint->server_,
      StreamServer::start(
          loop, std::move(listener), [self = endpoint.get()](StreamServer::Conversation& talk) { self->answer(talk); },
          std::move(log)));
  return endpoint;
}

/// One request a connection, which is what a scrape every few seconds needs.
void MetricsEndpoint::answer(StreamServer::Conversation& talk) const {
  http::request_parser<http::empty_body> parser;
  parser.eager(true);
  parser.header_limit(kMostRequestBytes);
  boost::system::error_code error;
  parser.put(boost::asio::buffer(talk.input), error);
  if (error == http::error::need_more && talk.input.size() <= kMostRequestBytes) return;
  http::response<http::string_body> response(http::status::bad_request, 11);
  if (!error && parser.is_done()) response = response_to(parser.get(), text_);
  response.set(http::field::connection, "close");
  std::ostringstream bytes;
  bytes << response;
  talk.output = bytes.str();
  talk.closing = true;
}

}  // namespace corral
