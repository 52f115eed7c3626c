/// One node's part of the lock manager: a state machine without I/O. Calls of the node's own users, messages and
/// changes of membership go in, actions come out (take_actions()).
///
/// A resource is mastered by the first node that used it; the others find the master through the directory and send
/// their operations there. A node that is itself the master goes the same way, but its messages to itself take no
/// network: see post(). The mastership and the place of a master are remembered without locks too
/// (Limits::unused_resources); what is remembered of another's mastership is a hint, and a request that reaches the
/// wrong node goes on to the directory. Who asks for CW on what has no locks becomes its master: so do users of ranges,
/// who come back often.
///
/// Change of view (recovery.cpp): everything stops, then
///   hello       every member has dropped the dead and everything that was in flight
///   registering masters enter their resources in the new directory
///   finding     those who hold locks of which the master died agree on a new one through the directory
///   reporting   owners tell masters of every lock they have; what nobody claims is dropped
///   running     operations that were not answered are sent again
/// and each phase ends when every member says so. A view that comes meanwhile starts over; whatever is then known is
/// kept by the owners of the locks, and what the dead may have held by the `blocked` marks.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <variant>
#include <vector>

#include <boost/intrusive/list.hpp>

#include "base/clock.h"
#include "base/result.h"
#include "cluster/member.h"
#include "dlm/deaths.h"
#include "dlm/directory.h"
#include "dlm/dump.h"
#include "dlm/lock_queue.h"
#include "dlm/message.h"
#include "dlm/range_locks.h"
#include "dlm/types.h"

namespace corral::dlm {

/// How an operation ended.
struct Outcome {
  /// 0, EAGAIN (no_queue), EDEADLK, ECANCELED, ENOLCK (a limit), ESHUTDOWN (this node is out of the cluster).
  int error = 0;
  /// What is granted now; empty: the lock is gone.
  std::optional<Mode> granted;
  /// The conversion lost its former mode on the way: what was cached under it may be out of date.
  bool demoted = false;
  /// The owner's copy: up to date if the operation raised the mode, or if the mode is PR or higher.
  LockValue value;
};

struct SendAction {
  Member to;
  Message message;
};
struct CompleteAction {
  LockId lock;
  Outcome outcome;
};
/// Another node waits for `requested`, and the lock is in the way.
struct BlockingAction {
  LockId lock;
  Mode requested;
};
/// The recovery of a view is complete.
struct RunningAction {
  ViewNumber view;
};
/// A peer broke the protocol: what it sent was not used. The peer, or this node, has a bug.
struct FaultAction {
  std::string what;
};
using Action = std::variant<SendAction, CompleteAction, BlockingAction, RangeCompleteAction, RangeDeadlockAction,
                            RunningAction, FaultAction>;

struct EngineCounters {
  std::uint64_t local_operations = 0;   ///< handled by this node as owner and master
  std::uint64_t remote_operations = 0;  ///< of this node, sent to another
};

class Engine final : private RangePort {
 public:
  Engine(Member self, const Clock& clock, Limits limits);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  /// The node's own users. Each operation ends in one CompleteAction; a lock has at most one at a time (else EBUSY).
  /// A lock that is refused or cancelled before it was ever granted is gone with that.
  Result<LockId> lock(const ResourceName& name, Mode mode, LockFlags flags);
  /// With flags.value, a holder of PW or EX that does not raise the mode writes `value`.
  Result<> convert(LockId lock, Mode mode, LockFlags flags, const std::array<std::byte, kLockValueBytes>& value);
  Result<> unlock(LockId lock, LockFlags flags, const std::array<std::byte, kLockValueBytes>& value);
  /// Asks for the end of a request or conversion; it completes with ECANCELED, or as if never asked if that was faster.
  /// A down-conversion waits for nobody and is not cancelled.
  Result<> cancel(LockId lock);
  /// POSIX locks of the node's own processes (see RangeLocks). The node must have a CW lock on the name for as long as
  /// range_in_use() says that it has locks or operations there.
  std::uint64_t begin_range(const ResourceName& name, RangeAction action, const HeldRange& wanted);
  void cancel_range(std::uint64_t operation);
  void end_range_deadlock(std::uint64_t operation, const std::set<std::uint64_t>& not_of_processes);
  bool range_in_use(const ResourceName& name) const { return ranges_.in_use(name); }
  /// Is the resource mastered here?
  bool masters(const ResourceName& name) const { return master_of(name) == self_; }

  /// Membership. A view's number is higher than the last one's. What the unrecovered may have written under stays
  /// locked until recovered() says that their journals were replayed; said to every member of the newest view.
  void enter_view(const View& view);
  void recovered(Member member);
  void connected(Member peer);
  void received(const FrameHeader& header, std::vector<Message> messages);

  std::vector<Action> take_actions() { return std::exchange(actions_, {}); }
  bool has_actions() const { return !actions_.empty(); }

  Member self() const override { return self_; }
  const View& view() const { return view_; }
  bool running() const override { return phase_ == Step::running; }
  bool out_of_cluster() const { return phase_ == Step::out; }
  std::size_t locks() const { return owned_.size(); }
  const EngineCounters& counters() const { return counters_; }
  Dump dump(DumpScope scope = DumpScope::all) const;
  /// Dump::state.
  std::string describe_state() const;

 private:
  enum class Step : std::uint8_t { no_view, hello, registering, finding, reporting, running, out };
  enum class Operation : std::uint8_t { none, request, convert, unlock };
  enum class Progress : std::uint8_t { unsent, backlogged, sent, queued };

  struct Pending {
    Operation operation = Operation::none;
    Progress progress = Progress::unsent;
    Mode mode = Mode::null;
    LockFlags flags;
    bool value_written = false;
    bool ever_sent = false;  ///< a master may have acted on it
    bool cancel = false;
    bool demoted = false;  ///< a conversion that has lost the mode it started from
    Member sent_to;
    std::uint64_t order = 0;  ///< among all operations of this node
    Time since{};
  };
  struct Resource;
  struct OwnedLock : boost::intrusive::list_base_hook<> {
    LockId id;
    Resource* resource = nullptr;
    std::optional<Mode> granted;
    Pending pending;
    LockValue value;
    /// An unlock was sent: the master may have done it, and not be the master any more.
    bool leaving() const { return pending.operation == Operation::unlock && pending.ever_sent; }
  };
  struct InOrder;
  struct InUnused;
  struct Resource : boost::intrusive::list_base_hook<boost::intrusive::tag<InOrder>>,
                    boost::intrusive::list_base_hook<boost::intrusive::tag<InUnused>> {
    ResourceName name;
    /// Known master; this node itself exactly if `queue` is there.
    std::optional<Member> master;
    std::unique_ptr<LockQueue> queue;
    boost::intrusive::list<OwnedLock> owned;
    bool asking = false;         ///< one request is on its way through the directory; the others wait for its answer
    bool lost = false;           ///< locks are held but the master died, and the recovery from that is not complete
    bool value_certain = false;  ///< of a lost resource: somebody reported a mode that kept all others from writing
    bool unused_linked() const {
      return boost::intrusive::list_base_hook<boost::intrusive::tag<InUnused>>::is_linked();
    }
    bool holds_granted() const;
  };
  using ResourceList = boost::intrusive::list<
      Resource, boost::intrusive::base_hook<boost::intrusive::list_base_hook<boost::intrusive::tag<InOrder>>>>;
  using UnusedList = boost::intrusive::list<
      Resource, boost::intrusive::base_hook<boost::intrusive::list_base_hook<boost::intrusive::tag<InUnused>>>>;
  struct Peer {
    bool hello = false;
    bool registered = false;
    bool reported = false;
    std::size_t in_flight = 0;
    std::deque<LockId> backlog;
  };
  struct Held {
    Member from;
    Message message;
  };

  /// engine.cpp: the owner's side.
  OwnedLock* find_owned(LockId id);
  Resource* find_resource(const ResourceName& name);
  Resource& use_resource(const ResourceName& name);
  void mark_used(Resource& resource);
  void begin(OwnedLock& lock, Operation operation, Mode mode, LockFlags flags, bool value_written);
  bool write_value(OwnedLock& lock, std::optional<Mode> to, LockFlags flags,
                   const std::array<std::byte, kLockValueBytes>& value);
  void submit(OwnedLock& lock);
  void submit_unsent(Resource& resource);
  void submit_in_order(std::vector<OwnedLock*> locks);
  void transmit(OwnedLock& lock, Member to);
  void answered(OwnedLock& lock);
  void pump_backlog(NodeId node);
  void complete(OwnedLock& lock, int error);
  void drop_owned(OwnedLock& lock);
  void learn_master(Resource& resource, Member master);
  void handle(Member from, Reply& reply);
  void finish_granted(OwnedLock& lock, const Reply& reply);
  void handle(Member from, Blocking& blocking);
  void handle(Member from, YouAreMaster& appointment);

  /// master.cpp: the master's and the directory's side.
  void become_master(Resource& resource);
  void handle(Member from, Request& request);
  void request_here(Resource& resource, const Request& request);
  bool hands_over(const Resource& resource, const Request& request) const;
  void handle(Member from, Convert& convert);
  void handle(Member from, Unlock& unlock);
  void handle(Member from, Cancel& cancel);
  void handle(Member from, Forget& forget);
  struct Queued {
    QueuedLock lock;
    Resource* resource;
  };
  Queued* find_queued(const LockOwner& owner);
  void drop_waiting(LockQueue& queue);
  void drop_granted(LockQueue& queue, const LockOwner& owner);
  void tell_owners(Resource& resource, const LockQueue::Events& events);
  void release_if_unused(Resource& resource);
  void trim_unused();
  void erase_resource(Resource& resource);

  /// recovery.cpp.
  void stop_for(const View& view);
  void stop_resource(Resource& resource);
  void drop_dead_and_doubt_others(Resource& resource);
  void abandon_queue(Resource& resource);
  void reset_operations(Resource& resource);
  void step_on();
  bool all_peers(bool Peer::* flag) const;
  void enter(Step step);
  void start_registering();
  void start_finding();
  void start_reporting();
  void start_running();
  void finish_resource(Resource& resource);
  void resubmit_all();
  Mode surely_held(OwnedLock& lock);
  void unblock_recovered();
  void go_out();
  void handle(Member from, Hello& hello);
  void handle(Member from, Register& entry);
  void handle(Member from, FindMaster& question);
  void handle(Member from, MasterIs& answer);
  void handle(Member from, Report& report);
  void handle(Member from, PhaseDone& done);
  /// dump.cpp.
  DumpedLock dump_owned(const OwnedLock& lock) const;
  void received_early(const FrameHeader& header, const std::vector<Message>& messages);

  /// POSIX locks.
  void handle(Member from, RangeRequest& request);
  void handle(Member from, RangeCancel& cancel);
  void handle(Member from, RangeReply& reply);
  void handle(Member from, RangeReport& report);
  std::optional<Member> master_of(const ResourceName& name) const override;
  bool blocked(const ResourceName& name) const override;
  void post(Member to, Message message) override;
  void completed(RangeCompleteAction action) override { actions_.emplace_back(action); }
  void suspected(RangeDeadlockAction action) override { actions_.emplace_back(std::move(action)); }

  /// From which step on a message can be used; before, it is held.
  static Step usable_from(const Message& message);
  void dispatch(Member from, Message& message);
  void drain_own();
  void release_held();
  void fault(Member from, std::string_view what);

  Member self_;
  const Clock& clock_;
  Limits limits_;
  View view_;
  Step phase_ = Step::no_view;
  DeathTable deaths_;
  Directory directory_;
  std::map<NodeId, Peer> peers_;
  /// The newest view, later than this node's, in which a peer said hello.
  std::map<Member, ViewNumber> early_hellos_;
  std::deque<Held> held_;
  std::size_t finding_ = 0;

  std::unordered_map<ResourceName, Resource> resources_;
  ResourceList in_order_;
  UnusedList unused_;
  std::unordered_map<LockId, OwnedLock> owned_;
  std::unordered_map<LockOwner, Queued> queued_;
  std::uint64_t next_lock_ = 1;
  std::uint64_t next_order_ = 1;

  std::deque<Message> own_messages_;
  std::vector<Action> actions_;
  EngineCounters counters_;
  RangeLocks ranges_;
};

}  // namespace corral::dlm
