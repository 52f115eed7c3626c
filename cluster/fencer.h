/// The seam between membership and whatever keeps a node's writes off the disk (reservation keys, a fence agent, an
/// operator).
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "base/result.h"
#include "base/task.h"
#include "cluster/member.h"

namespace corral::cluster {

/// How the nodes of a cluster are kept from writing; each node's key tells which way it goes by.
enum class FencingWay : std::uint8_t {
  reservations,  ///< persistent reservations
  life_locks,    ///< all nodes are processes of this host, on one image file
  agent,         ///< a program turns the node's host off
  manual,        ///< an operator says that the node can write nothing more
};

/// The bits of a key that tell the way.
constexpr std::uint64_t kWayHighBit = std::uint64_t{1} << 63;
constexpr std::uint64_t kWayLowBit = 1 << 7;

constexpr FencingWay way_of_key(std::uint64_t key) {
  const bool high = (key & kWayHighBit) != 0;
  const bool low = (key & kWayLowBit) != 0;
  if (high) return low ? FencingWay::manual : FencingWay::life_locks;
  return low ? FencingWay::agent : FencingWay::reservations;
}

/// What has a default need not be overridden by a way of fencing that keeps nothing at the disk.
class Fencer {
 public:
  virtual ~Fencer() = default;

  /// The key of a node's life: a function of cluster, node, incarnation and way.
  virtual std::uint64_t key_of(Member member) const = 0;
  /// Lets this process write to the disk as that member, in place of any member it was before.
  virtual Task<Result<>> admit(Member) { co_return Result<>{}; }
  /// Returns when no write of that life can land any more, verified; success also where its key was gone already, for a
  /// key is only removed by this. EBADE: this process has lost its own key, and has fenced nobody. EINPROGRESS:
  /// somebody else has yet to act, whom the error names. These and other errors: try again, as long as the life is to
  /// be fenced.
  virtual Task<Result<>> fence(Member victim) = 0;
  /// Success if what fence() brought about is still so; not where the disk has lost it since. Errors as those of
  /// fence().
  virtual Task<Result<>> verify(Member) { co_return Result<>{}; }
  /// Who uses the disk, and how this process knows that it still may.
  struct Users {
    std::vector<std::uint64_t> members;  ///< keys of the view
    std::vector<std::uint64_t> others;   ///< those of all other slots in use
    /// False where others may have fenced this life by now. Asked anew after every answer of the disk's.
    std::function<bool()> certain;
  };
  /// To be called now and then while this process is a member: keeps the way of fencing in force although nodes come
  /// and go. EBADE as above.
  virtual Task<Result<>> maintain(Users) { co_return Result<>{}; }
  /// Gives this process's key up, orderly. `last`: no other node has a slot, so that nothing needs to be kept in force.
  virtual Task<Result<>> leave([[maybe_unused]] bool last) { co_return Result<>{}; }
  /// The same where no other node has a slot, but a life that was fenced may still have writes on their way: what keeps
  /// them off the disk stays in force.
  virtual Task<Result<>> leave_in_force() { return leave(false); }
};

}  // namespace corral::cluster
