/// POSIX locks across the cluster: one node's part, as the owner of its processes' locks and as the master of files. A
/// state machine without I/O that is part of the Engine.
///
/// A file's table lives at the master of the file's resource, so the only node that uses it needs no message and
/// nothing is broadcast. Every node also keeps what its own owners hold: it is reported to the (new) master after a
/// change of view, which is why dead nodes' locks vanish, and it is where deadlocks between processes of the node are
/// found.
///
/// Semantics are Linux's: an owner's ranges split and merge; a request that conflicts with nothing that is held is
/// granted even if others wait; waiters are served in order of arrival. A flock owner loses what it holds before it
/// gets another mode.
///
/// While the file's resource is blocked because of a dead node, nobody living knows what that node had locked here, and
/// it may not yet know that it is dead: everything but an unlock waits.
#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <optional>
#include <set>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "dlm/message.h"
#include "dlm/range_table.h"

namespace corral::dlm {

/// How an operation on ranges ended.
struct RangeOutcome {
  /// 0, EAGAIN (RangeAction::set and a conflict), EDEADLK, EINTR (cancelled), ENOLCK (a limit), ESHUTDOWN.
  int error = 0;
  /// RangeAction::test: the first lock in the way, if any.
  std::optional<HeldRange> conflict;
};
struct RangeCompleteAction {
  std::uint64_t operation;
  RangeOutcome outcome;
};
/// An operation would wait for ever if all the operations of this node that it has to wait for are of processes; they
/// and it itself are in `passed`. To be answered with RangeLocks::end_deadlock().
struct RangeDeadlockAction {
  std::uint64_t operation;
  std::set<std::uint64_t> passed;
};

/// What the rest of the engine does for RangeLocks.
class RangePort {
 public:
  virtual Member self() const = 0;
  virtual bool running() const = 0;
  virtual std::optional<Member> master_of(const ResourceName& name) const = 0;
  /// A resource mastered here: may a dead node have had locks that are not known?
  virtual bool blocked(const ResourceName& name) const = 0;
  virtual void post(Member to, Message message) = 0;
  virtual void completed(RangeCompleteAction action) = 0;
  virtual void suspected(RangeDeadlockAction action) = 0;

 protected:
  ~RangePort() = default;
};

class RangeLocks {
 public:
  RangeLocks(RangePort& port, const Clock& clock, std::size_t ranges_per_file)
      : port_(port), clock_(clock), ranges_per_file_(ranges_per_file) {}

  /// Starts an operation of one of this node's owners; it ends in one RangeCompleteAction with the number given back.
  std::uint64_t begin(const ResourceName& name, RangeAction action, HeldRange wanted);
  /// The caller got a signal: EINTR, unless the operation ends first.
  void cancel(std::uint64_t operation);
  /// EDEADLK, if the operation would wait for ever without those that are not of processes. An open file's locks can be
  /// taken away by whoever has it open, also one of those who wait.
  void end_deadlock(std::uint64_t operation, const std::set<std::uint64_t>& not_of_processes);
  /// Has this node locks or operations on the file?
  bool in_use(const ResourceName& name) const { return own_.contains(name); }

  /// Recovery: forgets what was mastered here and what was in flight; reports this node's locks; sends operations
  /// again.
  void stop();
  void report();
  void resume();
  /// Every operation ends with this error.
  void fail_all(int error);
  /// The resource is blocked no more.
  void unblocked(const ResourceName& name);

  /// From an owner to this node as the master. False: it breaks the protocol.
  bool handle(Member from, const RangeRequest& request);
  void handle(Member from, const RangeCancel& cancel);
  bool handle(Member from, const RangeReport& report);
  /// From the master. False: nobody asked.
  bool handle(const RangeReply& reply);

  struct WaitingRange {
    HeldRange wanted;
    RangeAction action;
    std::uint64_t operation;
    Time since;
  };
  /// A file mastered here: what is held, and who waits in order.
  struct File {
    RangeTable table;
    std::list<WaitingRange> waiting;
  };
  const std::map<ResourceName, File>& mastered() const { return mastered_; }

 private:
  struct Operation {
    ResourceName name;
    RangeAction action;
    HeldRange wanted;
    bool sent = false;       ///< in the present view
    bool ever_sent = false;  ///< a master may have acted on it
    bool waiting = false;
    bool cancel = false;
    bool deadlocked = false;
  };
  struct OwnFile {
    RangeTable held;
    std::size_t operations = 0;
  };

  void send(std::uint64_t number, Operation& operation);
  void finish(std::uint64_t number, RangeOutcome outcome);
  struct Search {
    bool deadlock = false;
    std::set<std::uint64_t> passed;
  };
  Search follow(std::uint64_t number, const std::set<std::uint64_t>& leave_out) const;
  std::optional<RangeReply> decide(const ResourceName& name, File& file, const WaitingRange& asked);
  void grant_waiting(const ResourceName& name, File& file);
  void forget_if_empty(const ResourceName& name);

  RangePort& port_;
  const Clock& clock_;
  std::size_t ranges_per_file_;
  std::map<ResourceName, File> mastered_;
  std::map<ResourceName, OwnFile> own_;
  std::map<std::uint64_t, Operation> operations_;
  std::uint64_t next_operation_ = 1;
};

}  // namespace corral::dlm
