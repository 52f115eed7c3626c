/// A node's membership: carries out what MembershipCore decides, with the area on the disk, the links and the fencer.
///
/// Two coroutines go on: one reads the area, one writes the own slot, both every heartbeat interval; a slow read does
/// not delay a heartbeat. Everything else follows from what they and the links bring. One life of the node: after
/// ended() it does nothing more; a node that comes back makes another one.
///
/// Everything runs on the executor's thread. Destroying it is the death of the node: nothing is told to anybody.
#pragma once

#include <map>
#include <memory>
#include <vector>

#include "base/log.h"
#include "base/random.h"
#include "base/sync.h"
#include "cluster/area.h"
#include "cluster/fencer.h"
#include "cluster/link.h"
#include "cluster/membership_core.h"

namespace corral::cluster {

/// Where a peer listens.
struct Peer {
  Member member;
  std::vector<Address> addresses;
  std::uint16_t port = 0;

  bool operator==(const Peer&) const = default;
};

/// Makes the node's end of the links once its member is known.
class LinkProvider {
 public:
  virtual ~LinkProvider() = default;
  /// The end lives until close().
  virtual Link& open(Member self) = 0;
  /// Those with whom there should be connections, this node not among them; told when it changes.
  virtual void set_peers(std::vector<Peer> peers) = 0;
  virtual void close() = 0;
};

/// How a node that failed was found out and fenced.
struct FencingTimes {
  Time last_heard{};  ///< when its slot was last not seen to be silent
  Time suspected{};   ///< its heartbeat was found to be late, or at the decision
  Time decided{};     ///< first command to fence it
  Time fenced{};      ///< verified
};

/// Told what the layers above must know, on the loop's thread; must not destroy the membership.
class MembershipUser {
 public:
  virtual ~MembershipUser() = default;
  virtual void view_installed(const ViewInstalled& event) = 0;
  /// This node has fenced that one.
  virtual void fenced(Member /*victim*/, const FencingTimes& /*times*/) {}
  /// Recovery may start; ends with Membership::recovered().
  virtual void recover(Member dead) = 0;
  virtual void node_recovered(Member gone) = 0;
  virtual void ended(const MembershipEnded& event) = 0;
  /// Membership::may_serve() may have become true.
  virtual void lease_renewed() = 0;
};

class Membership final : private LinkUser {
 public:
  struct Environment {
    Executor& executor;
    ClusterArea area;
    Fencer& fencer;
    LinkProvider& links;
    MembershipUser& user;
    Logger log;
  };

  /// All of the environment outlives it. Begins at once.
  Membership(Environment environment, Header header, NodeOptions options, Random random);
  ~Membership() override;

  void recovered(Member dead);
  void journals_replayed() { core_.journals_replayed(); }
  /// See MembershipCore::leave(); ended() tells when it is done.
  void leave();
  bool may_serve() const { return core_.may_serve(environment_.executor.now()); }
  Time lease_end() const { return core_.lease_end(); }
  const MembershipCore& core() const { return core_; }
  /// Who is to be fenced and was not yet, and why not, in words for people.
  const std::map<Member, std::string>& not_fenced() const { return not_fenced_; }

 private:
  void received(Member from, std::span<const std::byte> message) override;
  void connected(Member peer) override;
  void disconnected(Member peer) override;
  void refused(Member peer) override;

  void perform(Actions actions);
  void perform_one(Action action);
  Task<void> scan_loop();
  Task<void> heartbeat_loop();
  Task<void> look_first();
  Task<Result<>> give_key_up();
  Task<Result<Scan>> scan();
  Task<Result<>> write_claim(ClaimSlot action);
  Task<void> carry_out(ClaimSlot action);
  Task<void> carry_out(FenceNode action);
  Task<void> carry_out(RecordView action);
  Task<void> carry_out(FreeSlot action);
  Task<Result<>> free_slot(FreeSlot action);
  void update_peers();
  void note_suspects();
  void warn(const std::string& text);
  Task<void> tell(MembershipEnded event);

  Environment environment_;
  MembershipCore core_;
  Link* link_ = nullptr;
  std::vector<Peer> peers_;
  Event look_again_;
  Signal scanned_;
  Time looked_{};                           ///< begin of the last scan that was taken in
  std::map<Member, Time> suspected_;        ///< members whose heartbeats are late, since when
  std::map<Member, FencingTimes> fencing_;  ///< under way
  std::map<Member, std::string> not_fenced_;
  std::map<std::string, Time> warned_;  ///< what was said lately, and when
  /// A slot has one writer at a time: heartbeats, claim and freeing of the own slot take turns.
  Mutex own_slot_;
  Scope scope_;
};

}  // namespace corral::cluster
