/// A TCP proxy on 127.0.0.1 in a thread of its own: the network between a test and its target, with its misfortunes.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#include "base/file_descriptor.h"

namespace corral::test {

class TcpProxy {
 public:
  explicit TcpProxy(std::uint16_t to_port);
  ~TcpProxy();
  TcpProxy(const TcpProxy&) = delete;
  TcpProxy& operator=(const TcpProxy&) = delete;

  std::uint16_t port() const { return port_; }
  /// Resets every connection that has carried so many bytes to the target, and the next one again; 0: none.
  void reset_after(std::uint64_t bytes) { reset_after_ = bytes; }
  /// Forwards nothing more on the connections that there are; new ones are not harmed.
  void stall() { stall_requested_ = true; }
  /// Refuses new connections and resets those there are, or ends that. Returns when it is so.
  void cut(bool cut);
  /// Connections reset, or taken to be so.
  std::uint64_t resets() const { return resets_; }

 private:
  struct Link {
    FileDescriptor client;
    FileDescriptor target;
    std::uint64_t bytes = 0;
    bool stalled = false;
  };
  void run();
  void accept_client();
  bool forward(Link& link);
  static bool move(int from, int to, std::uint64_t& bytes);

  std::uint16_t to_port_;
  std::uint16_t port_ = 0;
  FileDescriptor listener_;
  std::atomic<std::uint64_t> reset_after_{0};
  std::atomic<std::uint64_t> resets_{0};
  std::atomic<bool> stall_requested_{false};
  std::atomic<bool> cut_{false};
  std::atomic<std::uint64_t> rounds_{0};
  std::atomic<bool> ending_{false};
  std::vector<Link> links_;
  std::thread thread_;
};

}  // namespace corral::test
