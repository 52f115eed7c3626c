/// Locks of processes and open files for the filesystem: fcntl and flock on an inode, cluster-wide. Coroutines over
/// RangeLocks.
///
/// A file in use has a CW lock of this node on its resource, its pin. It keeps the resource's master, where the file's
/// table is, and makes the resource one that a dead node may have changed. Pins stay for a while after the last use:
/// the only user of a file is the master and needs no message, and each of several needs one question and one answer.
/// Who is not the master gives its pin up now and then: if nobody else has one by then it becomes the master itself.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>

#include "base/result.h"
#include "base/sync.h"
#include "base/task.h"
#include "dlm/lock_manager.h"

namespace corral::dlm {

/// One operation that may have to wait, in the hands of its caller: a signal cancels it.
class RangeWait {
 public:
  explicit RangeWait(LockManager& manager) : manager_(manager) {}
  virtual ~RangeWait() = default;
  RangeWait(const RangeWait&) = delete;
  RangeWait& operator=(const RangeWait&) = delete;
  /// The operation ends with EINTR, unless it is done first.
  void cancel();
  /// Asked when it would wait for ever if only processes could wait for each other. False for an open file's locks:
  /// they can be taken away by others than who waits.
  virtual bool of_process() const { return true; }

 private:
  friend class PosixLocks;
  LockManager& manager_;
  std::uint64_t operation_ = 0;
  Signal* waits_for_pin_ = nullptr;
  bool cancelled_ = false;
};

class PosixLocks {
 public:
  /// `lockspace` is for these locks alone; fcntl locks and flocks do not see each other and want one each.
  PosixLocks(LockManager& manager, LockspaceId lockspace);
  /// No operation may be under way.
  ~PosixLocks();

  /// Locks or unlocks (mode `unlocked`) the range for the owner, who belongs to this node. Without `wait` a conflict is
  /// EAGAIN; with it EDEADLK if processes of this node would wait for each other for ever, EINTR after wait->cancel().
  /// Other errors: ENOLCK (a limit), ESHUTDOWN.
  Task<Result<>> set(std::uint64_t inode, HeldRange wanted, RangeWait* wait);
  /// The first lock that would keep the owner from getting the range, with its node and process (F_GETLK).
  Task<Result<std::optional<HeldRange>>> test(std::uint64_t inode, HeldRange wanted);

  /// Files that this node has a pin of, or is about to have.
  std::size_t pins() const { return pins_.size(); }
  /// A pin that was not used for so long is given up.
  static constexpr Duration kPinKept = std::chrono::milliseconds(100);
  /// Operations sent to another master before the pin is given up once.
  static constexpr std::uint32_t kRemoteOperations = 64;

 private:
  struct Pin {
    Pin(LockManager& manager, const ResourceName& name) : lock(manager, name, nullptr), changed(manager.executor_) {}
    Lock lock;
    bool acquiring = false;
    Error failure{0};  ///< why the last acquiring was for nothing
    Signal changed;    ///< acquiring has ended, or somebody waits no more
    std::size_t operations = 0;
    std::uint32_t remote_operations = 0;
    bool used = false;  ///< since idle pins were last looked for
  };
  class Use;

  ResourceName name_of(std::uint64_t inode) const;
  Task<Result<RangeOutcome>> run(std::uint64_t inode, RangeAction action, HeldRange wanted, RangeWait* wait);
  Task<Result<RangeOutcome>> run_pinned(ResourceName name, RangeAction action, HeldRange wanted, RangeWait* wait);
  Task<Result<>> wait_for_pin(Pin& pin, RangeWait* wait);
  Task<void> acquire(Pin& pin);
  bool idle(const Pin& pin) const;
  void rests(const Pin& pin);
  Task<void> drop_idle_pins();

  LockManager& manager_;
  LockspaceId lockspace_;
  std::map<std::uint64_t, std::unique_ptr<Pin>> pins_;
  bool dropping_ = false;  ///< drop_idle_pins() runs
  Scope scope_;
};

}  // namespace corral::dlm
