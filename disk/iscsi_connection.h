/// One connection to an iSCSI target: TCP, login, commands, until it breaks or is closed. It is never repaired; a new
/// one takes its place (iscsi_session.h). libiscsi does the protocol and shows nowhere outside iscsi_connection.cpp;
/// its own reconnecting is switched off, because it blocks the thread and repeats commands without asking.
///
/// Commands that a turn of the loop has submitted go out together at the turn's end.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <string>
#include <vector>

#include <sys/uio.h>

#include "base/file_descriptor.h"
#include "base/result.h"
#include "base/sync.h"
#include "base/task.h"
#include "disk/event_loop.h"
#include "disk/scsi.h"

struct iscsi_context;

namespace corral {

/// Whom to connect to, and as whom. Initiator name and initiator session id together are the I_T nexus: the same ones
/// again make the target end the former session, with all its commands, before it lets the new one in (RFC 7143 6.3.5).
struct IscsiIdentity {
  std::string initiator;
  std::uint32_t session_random = 0;  ///< 24 bits; with the qualifier the initiator session id (type: random)
  std::uint16_t session_qualifier = 0;
  std::string target;
  std::uint32_t lun = 0;
  std::string user;  ///< CHAP; empty: none
  std::string secret;
};

/// Memory that a command reads or fills.
struct IscsiData {
  std::vector<iovec> vectors;
  /// What the vectors name, where it is not the caller's: it stays until the command has ended.
  std::shared_ptr<std::vector<std::byte>> owned;

  static IscsiData of(std::vector<std::byte> bytes);
};

class IscsiConnection final : private EventLoop::TurnHook {
 public:
  /// A login that takes longer than `timeout` fails, as does later a command that does, and the connection with it.
  /// EACCES: the target wants other credentials; ENOENT: it does not know the target's name; ECONNREFUSED and others:
  /// nobody answers there. `portal` is numeric ("192.0.2.1:3260"), or a name where looking it up may block.
  static Task<Result<std::unique_ptr<IscsiConnection>>> connect(EventLoop& loop, IscsiIdentity identity,
                                                                std::string portal, Duration timeout);
  /// Commands in flight end without an answer.
  ~IscsiConnection() override;
  IscsiConnection(const IscsiConnection&) = delete;
  IscsiConnection& operator=(const IscsiConnection&) = delete;

  struct Answer {
    bool answered = false;  ///< false: the connection broke; the command may have been executed, or not
    scsi::Outcome outcome{};
  };
  /// Sends one command; the memory that the vectors name must live until it has ended or the connection is destroyed,
  /// even where the waiting frame is destroyed.
  Task<Answer> perform(scsi::Command command, IscsiData data);
  /// LOGICAL UNIT RESET. EOPNOTSUPP where the target has none. What this connection has in flight is aborted too, and
  /// mostly gets no answer: give the connection up after a success.
  Task<Result<>> reset_logical_unit();
  /// Ends the connection, for a reason in words: what is in flight gets no answer.
  void give_up(std::string reason);
  /// Asks to leave in order; broken() tells when that is done.
  void begin_logout();

  /// Set when the connection is of no use any more.
  Event& broken() { return broken_; }
  /// Why, in words.
  const std::string& reason() const { return reason_; }

 private:
  struct Native;  ///< libiscsi's callbacks
  struct InFlight;
  using Position = std::list<std::shared_ptr<InFlight>>::iterator;

  IscsiConnection(EventLoop& loop, IscsiIdentity identity, Duration timeout);
  Result<> prepare();
  Task<Result<>> log_in(std::string portal);
  std::unexpected<Error> login_error() const;
  void service(int events);
  void notice_end_of_stream();
  void watch_events();
  EventLoop::Drained drain();
  bool end_turn() override;
  void break_off(std::string reason);
  Task<void> watch_time();

  EventLoop& loop_;
  const IscsiIdentity identity_;
  const Duration timeout_;
  iscsi_context* context_ = nullptr;
  FileDescriptor poller_;  ///< an epoll of the socket alone: readable, or writable where that is waited for
  std::uint32_t watched_events_ = 0;
  std::unique_ptr<EventLoop::Watch> watch_;
  std::list<std::shared_ptr<InFlight>> in_flight_;  ///< in order of sending
  bool to_send_ = false;
  bool logged_in_ = false;
  int login_status_ = 0;
  Event login_ended_;
  Event broken_;
  std::string reason_;
  Signal work_;
  Scope timekeeper_;
};

}  // namespace corral
