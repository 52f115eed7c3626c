/// Sees every glock mode that every node has, at the seam between filesystem and lock manager: a writer is alone, and
/// who gives a lock up has forgotten what it cached under it.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "fs/lock_space.h"
#include "test/sim/cluster/history.h"

namespace corral::sim {

class LockWatch {
 public:
  /// Whether a lock that the life `held_by` had in this mode, if that is dead, still keeps `asking` from the glock.
  std::function<bool(LifeId asking, LifeId held_by, GlockMode mode)> still_stands;
  std::function<void(const std::string& what)> violation;

  /// Told of every change.
  std::function<void(LifeId life, GlockName name, GlockMode mode, bool down)> changed;

  void granted(LifeId life, GlockName name, GlockMode mode);
  void lowered(LifeId life, GlockName name, GlockMode mode);
  /// All that the life had is given up, or void and its journal replayed.
  void forget(LifeId life);

 private:
  std::map<GlockName, std::map<LifeId, GlockMode>> modes_;
};

/// One node's lock space, watched.
class WatchedLockSpace final : public LockSpace {
 public:
  /// `nothing_cached(name)`: whether the node caches nothing under the glock. All outlive it.
  WatchedLockSpace(LockSpace& real, LockWatch& watch, LifeId life, std::function<bool(GlockName)> nothing_cached)
      : real_(real), watch_(watch), life_(life), nothing_cached_(std::move(nothing_cached)) {}

  GlockMode standing_mode() const override { return real_.standing_mode(); }
  void set_client(LockClient* client) override { real_.set_client(client); }
  Task<LockAnswer> change(GlockName name, GlockMode held, GlockMode wanted, LockHow how, LockValue value) override;
  void cancel(GlockName name) override { real_.cancel(name); }
  bool certain() const override { return real_.certain(); }
  Task<bool> wait_until_certain() override { return real_.wait_until_certain(); }
  Task<void> leave() override;

 private:
  LockSpace& real_;
  LockWatch& watch_;
  LifeId life_;
  std::function<bool(GlockName)> nothing_cached_;
};

}  // namespace corral::sim
