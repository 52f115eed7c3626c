/// The seam between glocks and whatever grants them to this node: nobody else (lock_nolock), or the lock manager of a
/// cluster. A node has at most one lock of each name.
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>

#include "base/result.h"
#include "base/task.h"

namespace corral {

/// LM_TYPE_*: first half of a glock's name.
enum class GlockType : std::uint8_t {
  nondisk = 1,
  inode = 2,
  resource_group = 3,
  meta = 4,
  iopen = 5,
  flock = 6,
  plock = 7,
  quota = 8,
  journal = 9,
};

/// LM_ST_*. Shared and deferred exclude each other; exclusive excludes all. A holder never has `unlocked`, a node may.
enum class GlockMode : std::uint8_t { unlocked, shared, deferred, exclusive };

struct GlockName {
  GlockType type;
  std::uint64_t number;
  auto operator<=>(const GlockName&) const = default;
};

/// GFS2_FREEZE_LOCK: held together by all who change the volume, exclusively by who has frozen it (freezer.h).
inline constexpr GlockName kFreezeGlock{GlockType::nondisk, 2};
/// Deferred where GFS2 has shared: what a dead node had in this mode nobody is granted before its journal was replayed.
inline constexpr GlockMode kChangeMode = GlockMode::deferred;
/// Held shared by who has frozen the volume: exclusively, it is a request to thaw it. Corral's own.
inline constexpr GlockName kThawGlock{GlockType::nondisk, 4};
/// Held exclusively while a freeze or a thaw is under way; its value names who has frozen the volume. Corral's own.
inline constexpr GlockName kFreezeRecordGlock{GlockType::nondisk, 5};

/// True if two nodes may have the modes at the same time.
constexpr bool compatible(GlockMode a, GlockMode b) {
  if (a == GlockMode::unlocked || b == GlockMode::unlocked) return true;
  return a == b && a != GlockMode::exclusive;
}
/// True if who has the first mode may do all that the second one allows.
constexpr bool covers(GlockMode has, GlockMode wanted) {
  return has == wanted || has == GlockMode::exclusive || wanted == GlockMode::unlocked;
}

/// 32 bytes that go with a lock's name: written by who gives up an exclusive lock, read by who is granted one.
using LockValue = std::array<std::byte, 32>;

/// How a stronger mode is asked for.
enum class LockHow : std::uint8_t {
  wait,     ///< until the others have given way
  attempt,  ///< granted at once or denied; those in the way are called back all the same
  /// The same, but where dead nodes may have had the lock it is decided when they are recovered: denied then means that
  /// somebody lives who was called back.
  attempt_among_living,
};

enum class LockOutcome : std::uint8_t {
  granted,
  /// An attempt found somebody in the way; or a conversion waits for a node whose own conversion waits for this one
  /// (the old mode is kept: unlock, then ask anew); or it was cancelled.
  denied,
  /// The lock space is gone for this node (fenced, left): nothing it had is valid any more.
  withdrawn,
};

struct LockAnswer {
  LockOutcome outcome = LockOutcome::granted;
  LockValue value{};  ///< zeros if nobody wrote one
};

/// Whom the lock space calls back, on the node's own thread.
class LockClient {
 public:
  virtual ~LockClient() = default;
  /// Other nodes wait for the lock in `wanted`: come down to a mode compatible with that. May come late, for a lock
  /// that was given up meanwhile. Must not wait.
  virtual void blocked(GlockName name, GlockMode wanted) = 0;
};

class LockSpace {
 public:
  virtual ~LockSpace() = default;
  /// The mode in which this node has every lock without asking: exclusive where there is no other node, else unlocked.
  virtual GlockMode standing_mode() const = 0;
  /// Whom to call back; null to call nobody any more.
  virtual void set_client(LockClient* client) = 0;
  /// Changes the lock from the mode `held` to `wanted`. Coming down is always granted and writes `value` if `held` is
  /// exclusive. One change of a name at a time.
  virtual Task<LockAnswer> change(GlockName name, GlockMode held, GlockMode wanted, LockHow how, LockValue value) = 0;
  /// Nobody wants what a change() that waits has asked for any more: it ends as denied, unless it is granted first.
  virtual void cancel(GlockName name) = 0;
  /// False while this node cannot tell whether its locks are still its own: it may have been fenced, and others have
  /// been granted what it had. Then nothing may be answered from under a lock, whatever is cached.
  virtual bool certain() const = 0;
  /// Returns when certain() again, or with false when the lock space is gone for this node.
  virtual Task<bool> wait_until_certain() = 0;
  /// The node lets go of all its locks at once, at unmount, after everything was written.
  virtual Task<void> leave() = 0;
};

/// lock_nolock: the only node has everything, always.
class LocalLockSpace final : public LockSpace {
 public:
  GlockMode standing_mode() const override { return GlockMode::exclusive; }
  void set_client(LockClient*) override {}
  Task<LockAnswer> change(GlockName, GlockMode, GlockMode, LockHow, LockValue value) override {
    co_return LockAnswer{LockOutcome::granted, value};
  }
  void cancel(GlockName) override {}
  bool certain() const override { return true; }
  Task<bool> wait_until_certain() override { co_return true; }
  Task<void> leave() override { co_return; }
};

}  // namespace corral
