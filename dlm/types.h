/// The nouns of the lock manager: names of resources, locks and their owners, flags, value blocks.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <string_view>

#include "base/check.h"
#include "base/strong.h"
#include "cluster/member.h"
#include "dlm/limits.h"
#include "dlm/mode.h"

namespace corral::dlm {

/// A space of names: glocks, POSIX locks, ... of one filesystem.
using LockspaceId = Strong<struct LockspaceIdTag, std::uint16_t>;
/// Number of a lock on the node that owns it; never used twice in one incarnation. 0 is none.
using LockId = Strong<struct LockIdTag, std::uint64_t>;

/// What is locked: any 1 to kResourceNameBytesMax bytes within a lockspace.
class ResourceName {
 public:
  ResourceName() = default;
  ResourceName(LockspaceId lockspace, std::string_view bytes)
      : lockspace_(lockspace), length_(static_cast<std::uint8_t>(bytes.size())) {
    CHECK_INVARIANT(valid_length(bytes.size()));
    std::memcpy(bytes_.data(), bytes.data(), bytes.size());
  }
  static bool valid_length(std::size_t bytes) { return bytes >= 1 && bytes <= kResourceNameBytesMax; }

  LockspaceId lockspace() const { return lockspace_; }
  std::string_view bytes() const { return {bytes_.data(), length_}; }
  /// The same on every node: the directory is spread by it.
  std::uint64_t hash() const;
  /// "2:inode 132050", bytes that are not printable as \xNN.
  std::string describe() const;
  bool operator==(const ResourceName& other) const {
    return lockspace_ == other.lockspace_ && bytes() == other.bytes();
  }
  auto operator<=>(const ResourceName& other) const {
    if (auto order = lockspace_ <=> other.lockspace_; order != 0) return order;
    return bytes() <=> other.bytes();
  }

 private:
  LockspaceId lockspace_{};
  std::uint8_t length_ = 0;
  std::array<char, kResourceNameBytesMax> bytes_{};
};

/// A lock as its master knows it: the owner's node and the owner's number.
struct LockOwner {
  Member node;
  LockId lock;
  auto operator<=>(const LockOwner&) const = default;
};

/// How a request is to be treated.
struct LockFlags {
  bool no_queue : 1 = false;            ///< grant at once or refuse with EAGAIN
  bool no_queue_blocking : 1 = false;   ///< a no_queue request that is refused tells the holders all the same ("try")
  bool expedite : 1 = false;            ///< a new NL lock that passes every queue
  bool queue_convert : 1 = false;       ///< a conversion goes behind the conversions that wait already
  bool no_order : 1 = false;            ///< may be granted before what waits ahead of it
  bool demote_on_deadlock : 1 = false;  ///< in a conversion deadlock lose the granted mode (to NL) instead of failing
  bool value : 1 = false;               ///< read or write the value block
  bool during_recovery : 1 = false;  ///< for who replays a journal: granted although a dead node's locks block others
  bool after_recovery : 1 = false;   ///< a new no_queue lock on a resource that dead nodes block is decided afterwards

  std::uint16_t bits() const {
    return static_cast<std::uint16_t>(no_queue | no_queue_blocking << 1 | expedite << 2 | queue_convert << 3 |
                                      no_order << 4 | demote_on_deadlock << 5 | value << 6 | during_recovery << 7 |
                                      after_recovery << 8);
  }
  static LockFlags from_bits(std::uint16_t bits) {
    LockFlags flags;
    flags.no_queue = (bits & 1) != 0;
    flags.no_queue_blocking = (bits & 2) != 0;
    flags.expedite = (bits & 4) != 0;
    flags.queue_convert = (bits & 8) != 0;
    flags.no_order = (bits & 16) != 0;
    flags.demote_on_deadlock = (bits & 32) != 0;
    flags.value = (bits & 64) != 0;
    flags.during_recovery = (bits & 128) != 0;
    flags.after_recovery = (bits & 256) != 0;
    return flags;
  }
};

/// A resource's lock value block. Zeros with sequence 0 on a resource that was never written.
struct LockValue {
  std::array<std::byte, kLockValueBytes> bytes{};
  /// Raised by every write; the higher one is the newer.
  std::uint64_t sequence = 0;
  /// False: who last held it PW or EX, or the only node that knew it, died; the bytes may be old (VALNOTVALID). The
  /// next write makes it valid again.
  bool valid = true;
  bool operator==(const LockValue&) const = default;
};

}  // namespace corral::dlm

template <>
struct std::hash<corral::dlm::ResourceName> {
  std::size_t operator()(const corral::dlm::ResourceName& name) const noexcept { return name.hash(); }
};

template <>
struct std::hash<corral::dlm::LockOwner> {
  std::size_t operator()(const corral::dlm::LockOwner& owner) const noexcept {
    return (owner.lock.value * 0x9E3779B97F4A7C15u) ^ (owner.node.node.value * 0xC2B2AE3D27D4EB4Fu);
  }
};
