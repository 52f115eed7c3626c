#include "test/sim/cluster/lock_watch.h"

#include <fmt/format.h>

namespace corral::sim {

void LockWatch::granted(LifeId life, GlockName name, GlockMode mode) {
  changed(life, name, mode, false);
  auto& standing = modes_[name];
  for (const auto& [other, other_mode] : standing) {
    if (other == life || compatible(mode, other_mode) || !still_stands(life, other, other_mode)) continue;
    violation(fmt::format("glock {}/{:x}: life {} is granted mode {} while life {} has mode {}",
                          static_cast<int>(name.type), name.number, life, static_cast<int>(mode), other,
                          static_cast<int>(other_mode)));
  }
  standing[life] = mode;
}

void LockWatch::lowered(LifeId life, GlockName name, GlockMode mode) {
  changed(life, name, mode, true);
  auto& standing = modes_[name];
  if (mode == GlockMode::unlocked) {
    standing.erase(life);
  } else {
    standing[life] = mode;
  }
}

void LockWatch::forget(LifeId life) {
  for (auto& [name, standing] : modes_)
    standing.erase(life);
}

Task<LockAnswer> WatchedLockSpace::change(GlockName name, GlockMode held, GlockMode wanted, LockHow how,
                                          LockValue value) {
  const bool down = covers(held, wanted) && held != wanted;
  // Others may be granted it before the answer is here.
  if (down) {
    if (wanted == GlockMode::unlocked && !nothing_cached_(name)) {
      watch_.violation(fmt::format("glock {}/{:x}: life {} gives it up with blocks cached under it",
                                   static_cast<int>(name.type), name.number, life_));
    }
    watch_.lowered(life_, name, wanted);
  }
  const LockAnswer answer = co_await real_.change(name, held, wanted, how, value);
  if (answer.outcome == LockOutcome::granted && wanted != GlockMode::unlocked) watch_.granted(life_, name, wanted);
  if (answer.outcome == LockOutcome::withdrawn) watch_.lowered(life_, name, GlockMode::unlocked);
  co_return answer;
}

Task<void> WatchedLockSpace::leave() {
  watch_.forget(life_);
  co_await real_.leave();
}

}  // namespace corral::sim
