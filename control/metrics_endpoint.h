/// An HTTP endpoint that gives a text to whoever asks for /metrics: what Prometheus and the like scrape.
///
/// There is nothing to protect or to change behind it, and no TLS: it belongs on an address that only the monitoring
/// reaches. Requests are parsed by Boost.Beast; whatever is not a small GET or HEAD request gets an error and is cut
/// off.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/log.h"
#include "base/result.h"
#include "control/stream_server.h"
#include "disk/event_loop.h"

namespace corral {

/// Where to listen: "9101" and ":9101" (all addresses), "192.0.2.1:9101", "[2001:db8::1]:9101".
struct MetricsAddress {
  std::string host;  ///< a numeric address; empty: all
  std::string port;

  /// EINVAL with what is allowed, for a text that is none.
  static Result<MetricsAddress> parse(const std::string& text);
};

class MetricsEndpoint {
 public:
  using Text = std::function<std::string()>;

  /// `text` gives what is answered, in OpenMetrics' text format. The loop outlives the endpoint. EADDRINUSE and what
  /// else the system says, with the address.
  static Result<std::unique_ptr<MetricsEndpoint>> listen(EventLoop& loop, const MetricsAddress& address, Text text,
                                                         Logger log);

 private:
  explicit MetricsEndpoint(Text text) : text_(std::move(text)) {}
  void answer(StreamServer::Conversation& talk) const;

  Text text_;
  std::unique_ptr<StreamServer> server_;
};

}  // namespace corral
