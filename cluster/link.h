/// Messages between nodes as the core sees them: ordered bytes to one life of a peer. Implementations: TCP with TLS
/// (production), SimulatedNetwork.
///
/// The promise on which everything above is built: what is sent to a member arrives there once, whole, unchanged and in
/// order, or else the connection breaks. Everything sent before and not delivered when it breaks is lost, nothing is
/// sent again. The two ends learn of a break at different times (a half-open connection); whoever owns membership
/// answers every break between two members with a new view, so that users that keep state between messages (the lock
/// manager) start over. A connection comes back by itself when both ends live and reach each other.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "cluster/member.h"

namespace corral {

/// What a message is about; every subject has one user on each node.
enum class LinkChannel : std::uint8_t { membership = 0, locks = 1, filesystem = 2 };
inline constexpr std::size_t kChannels = 3;

/// A message is not longer than this.
inline constexpr std::size_t kLinkMessageBytesMax = 1u << 20;
/// A peer that leaves more than this unread is taken for hung: the connection breaks.
inline constexpr std::size_t kLinkQueueBytesMax = 256u << 20;

/// Told by the link, on the loop's thread and never from within send().
class LinkUser {
 public:
  virtual ~LinkUser() = default;
  /// The bytes are the peer's: untrusted, and valid only during the call.
  virtual void received(Member from, std::span<const std::byte> message) = 0;
  /// There is a connection to the peer; the first, or a new one after a break.
  virtual void connected(Member peer) = 0;
  /// Messages to and from the peer that are not here yet never will be.
  virtual void disconnected(Member peer) = 0;
  /// After a break, perhaps more than once: the host that the peer was connected from says that nobody listens at the
  /// peer's port. Its process has ended, unless something on the way answers in the host's place.
  virtual void refused(Member peer) { (void)peer; }
};

class Link {
 public:
  virtual ~Link() = default;
  /// Who this end is.
  virtual Member self() const = 0;
  /// Registers the user of a channel, which outlives the link or is detached with nullptr.
  virtual void attach(LinkChannel channel, LinkUser* user) = 0;
  /// Hands a message over; never waits. False if there is no connection to this life of the peer: the message is lost.
  virtual bool send(Member to, LinkChannel channel, std::vector<std::byte> message) = 0;
};

}  // namespace corral
