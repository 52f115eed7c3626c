/// Membership of one node in the cluster, as a state machine without I/O: what happened goes in, what to do comes out.
/// Membership (membership.h) carries the actions out; docs/DESIGN.md, section "Membership", tells why it is so.
///
/// Lives through these phases:
///
///     starting   reads the area until it knows of a slot to claim
///     claiming   has asked to write its claim, and waits whether it holds
///     asking     holds a slot; asks the leader to be let in, or finds that nobody lives
///     electing   nobody lives: fences the dead, writes a view of its own, waits whether that holds
///     member     is in the installed view
///     ended      refused, lost or left; a new incarnation is another object
///
/// Who may serve: only a member whose lease has not run out, see may_serve(). A view without a node is installed only
/// after that node was fenced and then silent for the failure timeout, which is longer than its lease, or its process
/// has ended, as its host says (process_ended()): no two views can serve at the same time.
#pragma once

#include <bitset>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "base/random.h"
#include "cluster/arbitration.h"
#include "cluster/membership_message.h"
#include "cluster/slot_monitor.h"

namespace corral::cluster {

/// What a node brings along.
struct NodeOptions {
  std::string name;  ///< unique in the cluster; is_valid_node_name()
  std::vector<Address> addresses{};
  std::uint16_t port = 0;
  std::uint8_t health = 100;
  std::uint32_t journals = 1;  ///< of the volume: slots 0 to journals - 1 can be claimed
  Incarnation incarnation{};   ///< at least this one; see new_incarnation()
  std::uint32_t protocol_version = kProtocolVersion;
};

/// An incarnation that is higher than all earlier ones as long as the wall clock does not go back, and most likely
/// nobody else's.
Incarnation new_incarnation(WallTime now, Random& random);

/// Why a node that an operator has expelled is no member and is not let in.
Error expelled(const std::string& name);

// What to do.

/// Admit this life's key, fence `victim` if there is one, and write the slot; then call claimed().
struct ClaimSlot {
  Slot slot;
  std::optional<Member> victim;  ///< the dead node whose slot it is
};
/// Be ready for connections as this member.
struct OpenLink {
  Member self;
};
struct SendMessage {
  Member to;
  MembershipMessage message;
};
/// Fence and verify; then call fenced(). EBADE: this node has lost its own key.
struct FenceNode {
  Member victim;
};
/// Write the record after the one with this generation; then call recorded().
struct RecordView {
  ViewRecord record;
};
/// Write the slot as free if this life still holds it; then call slot_freed().
struct FreeSlot {
  Member member;
  bool may_write = false;  ///< it was fenced, and nothing tells that it has ended (FencedLife)
};
/// Read the area now, not only when the interval has passed: there is something to go on with.
struct LookAgain {};

// What the layers above must know.

/// A new view is in force. `gone`: members of the view before it that are not in this one and, for this node's first
/// view, those who were members earlier and whose journals were not known to be replayed; each will be followed by
/// NodeRecovered. `first`: nobody was a member before; every dirty journal must be replayed before anything is served,
/// and nobody else is let in before journals_replayed().
struct ViewInstalled {
  View view;
  std::vector<Member> gone;
  bool first = false;
};
/// To the leader: that node is fenced, verified, and can serve nothing more; its journal may be replayed. Answer with
/// recovered().
struct RecoverNode {
  Member member;
};
/// The node's journal has been replayed, or it had left orderly.
struct NodeRecovered {
  Member member;
};
/// This node is no member any more, whatever it was before: it must drop all it holds. The reason is for people.
struct MembershipEnded {
  enum class Why { refused, lost, left };
  Why why;
  Error reason;
};

using Action = std::variant<ClaimSlot, OpenLink, SendMessage, FenceNode, RecordView, FreeSlot, LookAgain, ViewInstalled,
                            RecoverNode, NodeRecovered, MembershipEnded>;
using Actions = std::vector<Action>;

/// One look at the area: the view, then the slots, read one after the other.
struct Scan {
  Time began;
  Time ended;
  ViewRecord record;
  std::vector<FoundSlot> slots;
  /// Names of nodes that an operator has expelled; none where the header could not be read.
  std::optional<std::vector<std::string>> expelled{};
};

class MembershipCore {
 public:
  enum class Phase { starting, claiming, asking, electing, member, ended };

  MembershipCore(Header header, NodeOptions options, Random random);

  // What happened. Each returns what to do, in this order.

  Actions scanned(const Scan& scan);
  /// The claim was written (or why not).
  Actions claimed(Time now, const Result<>& result);
  /// A heartbeat that was begun at `began` was written (or why not).
  Actions heartbeat_written(Time began, const Result<>& result);
  Actions fenced(Time now, Member victim, const Result<>& result);
  Actions recorded(Time now, const Result<ViewRecord>& result);
  Actions connected(Member peer);
  Actions disconnected(Member peer);
  /// See LinkUser::refused().
  Actions refused(Member peer);
  Actions received(Time now, Member from, const MembershipMessage& message);
  /// The layer above has replayed the journal.
  Actions recovered(Member member);
  /// What FreeSlot asked for was done (or why not).
  void slot_freed(Member member, const Result<>& result);
  /// After a first view: the layer above has replayed every dirty journal.
  void journals_replayed() { replaying_all_ = false; }
  /// The layer above uses its journal no more, which is clean: leave the cluster.
  Actions leave();

  /// From the begin of one reading of the area to the next.
  Duration scan_interval() const;
  /// What the next heartbeat writes; none where nothing is to be written.
  std::optional<Slot> next_heartbeat();

  Phase phase() const { return phase_; }
  Member self() const { return self_; }
  const View& view() const { return view_; }
  const Timing& timing() const { return timing_; }
  /// Slots below this number can be claimed.
  std::uint32_t journals() const { return options_.journals; }
  const SlotMonitor& monitor() const { return monitor_; }
  bool is_leader() const { return phase_ == Phase::member && leads_; }
  /// True for a life that this node has to keep from writing, as far as it knows by now.
  bool wants_fenced(Member member) const;
  /// True while this node may answer from what it holds. Ask anew after every wait.
  bool may_serve(Time now) const;
  /// When may_serve() ends if nothing new is heard; in the past where it has.
  Time lease_end() const;
  /// Begin of the last heartbeat that was written.
  std::optional<Time> last_heartbeat() const { return heartbeat_begun_; }
  Votes votes() const;

 private:
  /// A view that this node, the leader, is about to install.
  struct Change {
    ViewNumber number;
    std::vector<Member> members;
    std::set<Member> unanswered;
    std::uint32_t rounds = 0;  ///< of asking for answers
    bool recording = false;
  };

  /// Who can write no more, as long as its heartbeat does not go on: a registration that was under way came late then.
  struct Fenced {
    Time since;
    std::optional<std::uint64_t> heartbeat{};  ///< that stood in its slot afterwards
  };

  /// Who asked to be let in.
  struct Joiner {
    std::uint64_t version = 0;  ///< of the protocol that it speaks
    std::optional<Time> asked;  ///< end of the first scan that this node led since
    bool admitted = false;      ///< nothing speaks against it
  };

  // membership_core.cpp: messages, connections, installing and ending
  Actions take();
  void end(MembershipEnded::Why why, Error reason);
  void send(Member to, MembershipMessage message);
  Slot own_slot(SlotState state);
  void restart();
  void install(Time now, View view, bool first);
  void check_record(const Scan& scan);
  void notice_recovered();
  void notice_writing_again(const Scan& scan);
  bool joins(NodeId node) const;
  std::vector<Member> earlier_members(const View& view) const;
  bool process_ended(Member member) const;
  bool is_back(Member member) const;
  bool is_dead(Member member) const;
  bool is_gone(Member member) const;
  bool hears(Member member) const { return connected_.contains(member); }
  std::bitset<kSlots> heard() const;
  void end_if_fenced(const Error& error);
  bool is_expelled(Member member) const;
  std::size_t expelled_members() const;
  void take_prepare(Member from, const MembershipMessage& message);

  // membership_join.cpp: from starting to member
  int cost_of(const Slot& free) const;
  void look_for_slot(const Scan& scan);
  void claim(NodeId node, std::optional<Member> victim);
  void check_claim(const Scan& scan);
  void ask(const Scan& scan);
  bool fence_all_dead();
  void elect(const Scan& scan);
  bool may_live(Member member) const;
  bool a_member_may_live() const;
  std::optional<Member> unheard_member() const;
  bool a_lower_joiner_may_live() const;

  // membership_leader.cpp: arbitration, and the leader's work
  void arbitrate(const Scan& scan);
  void lead(const Scan& scan);
  std::vector<Voter> living_voters() const;
  bool any_late() const;
  void admit_joiners(const Scan& scan);
  bool admit(const Scan& scan, Member joiner, Joiner& state);
  bool has_to_wait(Member joiner) const;
  std::optional<MembershipMessage> objection_to(Member joiner, const Joiner& state) const;
  void fence(Member victim);
  std::vector<Member> wanted_members() const;
  void drive_change(std::vector<Member> wanted);
  void drive_recovery();
  void recover_when_gone(Member member, bool dead);
  ViewNumber next_number() const;
  ViewRecord record_of(ViewNumber number, std::vector<Member> members) const;

  Header header_;
  NodeOptions options_;
  Timing timing_;
  Random random_;
  SlotMonitor monitor_;
  Phase phase_ = Phase::starting;
  Actions actions_;

  Member self_{};
  std::uint64_t heartbeat_ = 0;
  std::uint32_t attempts_ = 0;                   ///< claims made
  FencedLife fenced_before_ = FencedLife::none;  ///< what the own slot remembers of those who had it
  std::optional<Time> first_scan_;
  std::optional<Time> claim_written_;
  std::optional<Time> asking_since_;
  std::optional<Time> election_scan_;     ///< begin of the scan on which the election record stands
  std::optional<Time> election_written_;  ///< when the record was written
  bool election_recording_ = false;

  std::set<std::string> expelled_;    ///< names of nodes that are to be neither members nor let in
  ViewRecord record_;                 ///< as last read or written
  View view_;                         ///< installed
  std::uint32_t expected_nodes_ = 0;  ///< as recorded with it
  Time installed_{};                  ///< when; scans begun earlier tell nothing about it
  ViewNumber promised_{};
  std::vector<Member> promised_members_;
  Member promised_to_{};

  std::set<Member> connected_;
  std::set<Member> refused_;  ///< whose hosts said that they have ended
  bool broken_ = false;       ///< a connection between members broke since the view was installed
  bool leaving_ = false;
  bool leads_ = false;
  bool outvoted_ = false;            ///< others may go on, this node must not
  std::optional<Time> split_since_;  ///< members do not hear each other
  std::vector<Member> survivors_;    ///< who may go on, this node included or not
  std::map<Member, Joiner> joiners_;
  std::set<Member> leavers_;
  std::set<Member> fencing_;            ///< asked for, no answer yet
  std::set<Member> wanted_fenced_;      ///< by what the last scan showed
  std::map<Member, Fenced> fenced_;     ///< verified
  std::set<Member> recovering_;         ///< handed to the layer above
  std::set<Member> freeing_;            ///< recovered; their slots are not seen to be free yet
  std::set<Member> awaiting_recovery_;  ///< gone from a view, not known to be recovered
  bool replaying_all_ = false;          ///< in a first view, until every dirty journal was replayed
  std::optional<Change> change_;

  std::optional<Time> heartbeat_begun_;  ///< begin of the last one that was written
  std::optional<Time> confirmed_;        ///< begin of the last scan that showed this node as a member
};

}  // namespace corral::cluster
