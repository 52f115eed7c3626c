/// The links of production: TCP with TLS 1.3 (tls_stream.h) on an EventLoop. IPv4 and IPv6.
///
/// Of two nodes the one with the higher number connects, to the addresses that the other's slot gives, one after the
/// other, again and again until there is a connection. Both sides then say who they are and whom they want; only the
/// very lives that set_peers() names come through, a newer connection of the same peer in place of the older. Section
/// "Links" of docs/SPEC.md has the bytes.
///
/// When a connection has broken, either node asks the address that the peer was connected from whether anybody listens
/// at the peer's port, and tells users if the host says no.
///
/// A stranger costs a socket for a short time: connections that have not said who they are are bounded in number, bytes
/// and time, and tell nobody anything. All runs on the loop's thread.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/file_descriptor.h"
#include "base/log.h"
#include "base/sync.h"
#include "cluster/link.h"
#include "cluster/membership.h"
#include "cluster/tls_stream.h"
#include "disk/event_loop.h"

namespace corral::cluster {

struct LinkOptions {
  Uuid cluster{};
  Secret secret{};
  std::uint16_t port = 0;  ///< 0: any that is free
  /// A peer that does not acknowledge what was sent for so long breaks the connection (TCP_USER_TIMEOUT).
  Duration stall_timeout = std::chrono::seconds(2);
  /// A new connection must have said who it is within this.
  Duration greeting_timeout = std::chrono::seconds(3);
  /// From one attempt to connect to a peer to the next.
  Duration retry_interval = std::chrono::milliseconds(200);
};

/// Connections that have not said who they are yet.
inline constexpr std::size_t kStrangersMax = 64;

class TlsLinks final : public LinkProvider, private Link {
 public:
  /// Listens on all addresses. EADDRINUSE and what else the system says, with the port.
  static Result<std::unique_ptr<TlsLinks>> listen(EventLoop& loop, LinkOptions options, Logger log);
  ~TlsLinks() override;

  /// What it listens on.
  std::uint16_t port() const { return port_; }

  Link& open(Member self) override;
  void set_peers(std::vector<Peer> peers) override;
  void close() override;

  /// Connections of strangers at this moment.
  std::size_t strangers() const;

 private:
  struct Connection;
  struct PeerState;

  TlsLinks(EventLoop& loop, LinkOptions options, Logger log, FileDescriptor listener, FileDescriptor poll,
           std::uint16_t port);

  // Link
  Member self() const override { return self_; }
  void attach(LinkChannel channel, LinkUser* user) override { users_[static_cast<std::size_t>(channel)] = user; }
  bool send(Member to, LinkChannel channel, std::vector<std::byte> message) override;

  EventLoop::Drained drain();
  void accept_all();
  void read_from(Connection& connection);
  void take_frames(Connection& connection);
  bool take_greeting(Connection& connection, std::span<const std::byte> frame);
  void establish(Connection& connection, Member peer);
  void tell_users(void (LinkUser::*event)(Member), Member peer);
  bool is_ours_to_try(Member member, const PeerState& state) const;
  void connect_to(PeerState& peer);
  Connection& add(FileDescriptor socket, TlsStream::Side side);
  void send_frame(Connection& connection, std::uint8_t kind, std::span<const std::byte> payload);
  void send_greeting(Connection& connection);
  void flush(Connection& connection);
  void fail_connection(Connection& connection, const std::string& why);
  void fail_connection(Connection& connection, int system_error);
  void watch_writable(Connection& connection, bool writable);
  void reap();
  Task<void> work();
  Time next_deadline() const;

  EventLoop& loop_;
  LinkOptions options_;
  Logger log_;
  TlsKey key_;
  FileDescriptor listener_;
  FileDescriptor poll_;  ///< one epoll instance for all sockets, which the loop watches
  std::uint16_t port_;
  Member self_{};
  bool open_ = false;
  std::array<LinkUser*, kChannels> users_{};
  std::map<std::uint64_t, std::unique_ptr<Connection>> connections_;  ///< by number, as epoll names them
  std::uint64_t next_number_ = 1;
  std::map<Member, PeerState> peers_;
  Signal work_;
  std::unique_ptr<EventLoop::Watch> watch_;
  Scope scope_;
};

}  // namespace corral::cluster
