/// Everything has a limit, and every limit of the lock manager stands here.
#pragma once

#include <cstddef>
#include <cstdint>

namespace corral::dlm {

/// Bytes of a resource's name within its lockspace.
inline constexpr std::size_t kResourceNameBytesMax = 64;
/// Bytes of a lock value block.
inline constexpr std::size_t kLockValueBytes = 32;
/// Messages to one peer go out together, in frames of at most this size.
inline constexpr std::size_t kFrameBytesMax = 64 * 1024;
/// A request that was sent from node to node this often has met nothing but nodes that are not its master: a bug.
inline constexpr std::uint8_t kRequestHopsMax = 64;

/// What a node may be asked to hold; each can be set lower.
struct Limits {
  /// Locks of this node. More: ENOLCK.
  std::size_t locks = 4'000'000;
  /// Locks on one resource, granted and waiting, at its master. More: ENOLCK.
  std::size_t locks_per_resource = 100'000;
  /// Operations sent to one peer and not yet answered; more wait here.
  std::size_t operations_in_flight = 4096;
  /// Resources without locks that are remembered, so that their next use needs no message.
  std::size_t unused_resources = 10'000;
  /// Messages of peers that are ahead of this node in a recovery. More: the peer's are dropped, and the error reported.
  std::size_t held_messages = 8'000'000;
  /// Ranges that one owner's and others' POSIX locks divide one file into, granted and waiting. More: ENOLCK.
  std::size_t ranges_per_file = 65'536;
};

}  // namespace corral::dlm
