/// What was asked of one object of the filesystem, when, and what was answered: by all clients of all nodes, to be
/// judged afterwards (linearizability.h). Objects are files (their size and contents, in slots) and directories (which
/// name leads to which inode).
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <vector>

namespace corral::sim {

/// One life of one node, counted over the whole run from 1.
using LifeId = std::uint32_t;
/// Moments of a history: counted, so that no two are the same.
using Step = std::uint64_t;
inline constexpr Step kNever = std::numeric_limits<Step>::max();

/// What a slot of a file holds: the number of the write that filled it, 0 for zeros; above kMixed, an entry of
/// Mixtures: parts of several writes.
using SlotValue = std::uint32_t;
inline constexpr SlotValue kMixed = 0x8000'0000;

/// An inode as a name leads to it: address and generation. 0: none. Above kUnknown: of an operation whose answer never
/// came.
using InodeTag = std::uint64_t;
inline constexpr InodeTag kUnknown = std::uint64_t{1} << 63;

struct Operation {
  enum class Kind : std::uint8_t {
    // of a file
    read,      ///< `seen`: the slots
    size,      ///< `count`: slots
    write,     ///< `count` slots from `first` on become `value`
    append,    ///< one slot of `value`
    truncate,  ///< to `count` slots
    // of a directory
    lookup,    ///< `tag`
    insert,    ///< `first` leads to `tag`; EEXIST
    replace,   ///< `first` leads to `tag`, whatever it led to before
    remove,    ///< `first` leads nowhere; ENOENT
    move,      ///< what `first` leads to, `second` leads to; ENOENT
    exchange,  ///< ENOENT
    list,      ///< `tags`: addresses only
    // of both
    sync,   ///< what the node did before is safe
    death,  ///< of the life: what it did and nobody else has seen, and was not synced, may be undone
  };
  Kind kind;
  LifeId life = 0;
  Step begin = 0;
  Step end = kNever;
  int error = 0;
  std::uint32_t first = 0;
  std::uint32_t second = 0;
  std::uint32_t count = 0;
  SlotValue value = 0;
  InodeTag tag = 0;
  std::vector<SlotValue> seen{};
  std::vector<InodeTag> tags{};
  bool with_disk = false;       ///< of a death: the disk lost power at the same time
  bool void_of_effect = false;  ///< it failed before it could do or see anything: does not count

  bool ended() const { return end != kNever; }
  std::string describe() const;
};

/// Slots that hold parts of several writes.
class Mixtures {
 public:
  SlotValue intern(std::vector<SlotValue> parts, std::uint64_t contents);
  const std::vector<SlotValue>& parts(SlotValue mixed) const { return parts_.at(mixed - kMixed); }

 private:
  std::map<std::uint64_t, SlotValue> known_;
  std::vector<std::vector<SlotValue>> parts_;
};

}  // namespace corral::sim
