/// Glocks from the lock manager: fs/lock_space.h over dlm/lock_manager.h.
///
/// Shared is PR, deferred CW, exclusive EX; unlocked is no lock at all. A glock's resource is named as GFS2's messages
/// name glocks, type and hexadecimal number ("2/805c"), in the lockspace kGlocks. Value blocks go along.
#pragma once

#include <map>
#include <memory>

#include "base/sync.h"
#include "dlm/lock_manager.h"
#include "fs/lock_space.h"

namespace corral {

/// The lockspaces of a mount.
inline constexpr dlm::LockspaceId kGlocks{1};
inline constexpr dlm::LockspaceId kPosixLocks{2};  ///< fcntl
inline constexpr dlm::LockspaceId kFileLocks{3};   ///< flock

dlm::ResourceName glock_resource(GlockName name);
dlm::Mode dlm_mode(GlockMode mode);
/// The glock mode that a request for this lock mode stands for.
GlockMode glock_mode(dlm::Mode mode);

/// How long what was granted is to be relied on.
class Lease {
 public:
  virtual ~Lease() = default;
  virtual bool certain() const = 0;
  virtual Task<bool> wait_until_certain() = 0;
};

class DlmLockSpace final : public LockSpace {
 public:
  /// Manager and lease outlive it. Destroyed when nothing waits in it any more.
  DlmLockSpace(Executor& executor, dlm::LockManager& manager, Lease& lease, Logger log);
  ~DlmLockSpace() override;

  GlockMode standing_mode() const override { return GlockMode::unlocked; }
  void set_client(LockClient* client) override { client_ = client; }
  Task<LockAnswer> change(GlockName name, GlockMode held, GlockMode wanted, LockHow how, LockValue value) override;
  void cancel(GlockName name) override;
  bool certain() const override { return lease_.certain(); }
  Task<bool> wait_until_certain() override { return lease_.wait_until_certain(); }
  Task<void> leave() override;

  /// Glocks that the node has, or is about to have.
  std::size_t size() const { return locks_.size(); }

 private:
  struct Held;
  LockOutcome outcome_of(const GlockName& name, const Error& error) const;
  Task<void> give_up(Held& held);

  Executor& executor_;
  dlm::LockManager& manager_;
  Lease& lease_;
  Logger log_;
  LockClient* client_ = nullptr;
  std::map<GlockName, std::unique_ptr<Held>> locks_;
};

}  // namespace corral
