/// TLS 1.3 between two nodes that know the cluster's secret, over bytes that somebody else carries. Through OpenSSL; no
/// sockets.
///
/// Both sides prove that they hold the secret (an external pre-shared key with ephemeral keys: RFC 8446 4.2.11), so
/// there are no certificates and nothing that expires. Who does not know it gets no further than the handshake.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "base/result.h"
#include "cluster/area_format.h"

namespace corral::cluster {

/// The key of one cluster, shared by all its streams.
class TlsKey {
 public:
  TlsKey(const Uuid& cluster, const Secret& secret);
  ~TlsKey();
  TlsKey(const TlsKey&) = delete;
  TlsKey& operator=(const TlsKey&) = delete;

 private:
  friend class TlsStream;
  struct Native;
  std::unique_ptr<Native> native_;
};

class TlsStream {
 public:
  enum class Side { client, server };
  /// The key outlives the stream.
  TlsStream(const TlsKey& key, Side side);
  ~TlsStream();
  TlsStream(const TlsStream&) = delete;
  TlsStream& operator=(const TlsStream&) = delete;

  /// Takes bytes from the other side and appends what they say to `plain`. EPROTO: they are not what a holder of the
  /// secret sends; the stream is of no use any more.
  Result<> receive(std::span<const std::byte> bytes, std::vector<std::byte>& plain);
  bool ready() const;
  /// Only when ready().
  void send(std::span<const std::byte> plain);
  /// Appends what is to go to the other side to `bytes`.
  void take_output(std::vector<std::byte>& bytes);

 private:
  struct Native;
  std::unique_ptr<Native> native_;
};

}  // namespace corral::cluster
