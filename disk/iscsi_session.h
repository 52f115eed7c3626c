/// The lasting way to one logical unit behind iSCSI: one I_T nexus, over one connection after another.
///
/// When a connection breaks (closed, reset, a command not answered in time) a new one takes its place, with the same
/// initiator name and initiator session id, and the commands that had no answer are sent again. That loses no write and
/// lets none take effect behind a later one, because
///
///   - the caller has not been told yet that the command is done. By the Device contract nothing that must come after
///     it can have been sent by this node, and no other node can have been handed the lock that covers it: between the
///     first execution and the second there is nothing that could be undone. Commands in flight together may land in
///     any order anyway, and a write executed twice leaves the same bytes as one executed once.
///   - what the old connection had in flight cannot land after the repetition: a login with the same initiator name and
///     session id makes the target end the old session and its commands before the login is answered (session
///     reinstatement, RFC 7143 6.3.5). Nothing is sent again before that. (tgt leaves a system call that has already
///     begun to end by itself.)
///   - a node that has been fenced meanwhile is refused by the disk itself, the repetition too (EBADE).
///   - acknowledged writes are never sent again: other nodes may have written there since. Where the disk may have lost
///     them, because it lost power, every flush fails from then on: see WriteCacheState.
///   - changes of reservations are not repeated here at all (execute()). What this nexus had registered it has again
///     before anything is sent again, unless the key was removed meanwhile: see restore_registration().
///   - the disk that answers is the same one: its size and identification (VPD page 83h) must be as before, or nothing
///     more is sent to it.
///
/// A new connection starts slowly: one command, then two more with each answer. Where no connection lasts long, some
/// commands succeed on each, however many wait.
///
/// A failed operation has been given up: a write may have been executed, or may still be while the old session lives.
/// Time for recovery is limited: IscsiName::recovery after the connection broke, or after the command was first sent,
/// operations end with an error (EIO for the device's refusal, else ETIMEDOUT).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/sync.h"
#include "disk/event_loop.h"
#include "disk/helper_threads.h"
#include "disk/iscsi_connection.h"
#include "disk/iscsi_name.h"
#include "disk/scsi.h"
#include "disk/write_cache_state.h"

namespace corral {

class IscsiSession final : public scsi::Transport {
 public:
  /// Connects, or says at once why not: see IscsiConnection::connect(); ENXIO: the target has no such LUN, ENOTBLK: it
  /// is no disk.
  /// `writes` false: nothing is going to be written, and nothing is changed on the disk.
  static Task<Result<std::unique_ptr<IscsiSession>>> open(EventLoop& loop, IscsiName name, std::string shown_name,
                                                          bool writes);
  /// close() first.
  ~IscsiSession() override;

  const std::string& name() const override { return shown_name_; }
  const scsi::Capacity& capacity() const { return *capacity_; }

  /// Sends until it is answered with something else than a passing obstacle (unit attention, busy, aborted). For
  /// commands that may be executed more than once.
  Task<Result<scsi::Outcome>> perform(scsi::Command command, IscsiData data);
  /// perform(), and what came.
  Task<Result<std::vector<std::byte>>> query(scsi::Command command);

  /// Once; see scsi::Transport. ECONNABORTED where the connection broke meanwhile.
  Task<Result<scsi::Outcome>> execute(scsi::Command command, std::span<std::byte> data) override;
  Task<Result<>> reset_logical_unit() override;

  WriteCacheState& write_cache() { return write_cache_; }

  /// Connections made so far, the first included.
  std::uint64_t connections() const { return connections_; }
  /// Logs out. Nobody may be waiting for a command.
  Task<void> close();

 private:
  IscsiSession(EventLoop& loop, IscsiName name, std::string shown_name, bool writes);
  Task<Result<>> connect();
  Task<Result<>> log_in();
  Task<Result<std::string>> resolve_portal();
  Task<Result<>> examine(IscsiConnection& connection);
  Task<Result<>> await_ready(IscsiConnection& connection, bool& power_on);
  Task<Result<>> identify(IscsiConnection& connection);
  Task<void> look_for_power_loss(IscsiConnection& connection, bool power_on);
  Task<Result<>> restore_own_registration(IscsiConnection& connection);
  Task<void> make_power_witness(IscsiConnection& connection);
  Task<Result<std::vector<std::byte>>> query_on(IscsiConnection& connection, scsi::Command command);
  Task<Result<RegisteredKeys>> read_keys_on(IscsiConnection& connection);
  Task<void> keep_connected();
  Task<Result<IscsiConnection*>> connected();
  Task<Result<IscsiConnection::Answer>> send(scsi::Command command, IscsiData data);
  bool meet_obstacle(const scsi::Outcome& outcome);
  Task<void> note_change(scsi::Command command, ReservationKey new_key, bool persists);
  std::unexpected<Error> closed() const;

  EventLoop& loop_;
  Executor& executor_;
  const IscsiName target_;
  const std::string shown_name_;
  const bool writes_;
  IscsiIdentity identity_;
  HelperThreads helper_;                         ///< for looking up names
  std::unique_ptr<IscsiConnection> connection_;  ///< null while there is none
  std::shared_ptr<Semaphore> starts_;            ///< commands that connection_ may take now; each waiter keeps it
  std::uint64_t connections_ = 0;
  std::optional<scsi::Capacity> capacity_;
  std::vector<std::byte> identification_;
  WriteCacheState write_cache_;
  PowerWitness witness_;
  ReservationKey own_key_{};  ///< that this nexus has registered last; 0: none
  bool own_key_persists_ = false;
  Time down_since_{};
  Error last_error_{EIO};
  bool power_on_seen_ = false;  ///< by a command of the connection that has just broken
  bool wrong_disk_ = false;
  bool closing_ = false;
  Signal changed_;  ///< connection_, closing_ or wrong_disk_ changed
  std::optional<Scope> keeper_;
};

}  // namespace corral
