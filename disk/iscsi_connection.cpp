#include "disk/iscsi_connection.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <utility>

#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>

extern "C" {
#include <iscsi/iscsi.h>
// Declares a C array of no elements.
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wzero-length-array"
#include <iscsi/scsi-lowlevel.h>
#pragma clang diagnostic pop
}

namespace corral {

using namespace std::chrono_literals;

/// One command on its way; also of interest to nobody, where the waiting frame was destroyed.
struct IscsiConnection::InFlight {
  explicit InFlight(IscsiConnection& sender, Time when)
      : connection(sender), sent(when), done(sender.loop_.executor()) {}

  IscsiConnection& connection;
  scsi::Command command;
  IscsiData data;  ///< libiscsi's until the end
  Time sent;
  scsi_task* task = nullptr;
  std::uint32_t management_response = 0;
  Answer answer;
  Position position;
  Event done;
};

namespace {
/// Login status classes and details, RFC 7143 11.13.5.
constexpr int kAuthenticationFailed = 0x0201;
constexpr int kForbidden = 0x0202;
constexpr int kNotFound = 0x0203;
constexpr int kRemoved = 0x0204;
constexpr int kMostRedirections = 4;
constexpr Duration kTick = 1s;
/// Initiator task tag that names none, RFC 7143 11.5.5.
constexpr std::uint32_t kNoTask = 0xFFFFFFFF;

/// libiscsi tells the login status within its text only: "...(513)".
int status_in(const std::string& text) {
  std::size_t open = text.rfind('(');
  return open == std::string::npos ? 0 : std::atoi(text.c_str() + open + 1);
}

scsi_xfer_dir direction_of(const scsi::Command& command) {
  switch (command.direction) {
    case scsi::Command::Direction::none:
      return SCSI_XFER_NONE;
    case scsi::Command::Direction::from_device:
      return SCSI_XFER_READ;
    case scsi::Command::Direction::to_device:
      return SCSI_XFER_WRITE;
  }
  return SCSI_XFER_NONE;
}

scsi::Outcome outcome_of(int status, const scsi_task& task, const scsi::Command& command) {
  scsi::Outcome outcome;
  outcome.status = static_cast<scsi::Status>(status);
  if (status == SCSI_STATUS_CHECK_CONDITION) {
    outcome.sense = {static_cast<std::uint8_t>(task.sense.key), static_cast<std::uint8_t>(task.sense.ascq >> 8),
                     static_cast<std::uint8_t>(task.sense.ascq)};
  }
  outcome.transferred_bytes = command.length_bytes;
  if (task.residual_status == SCSI_RESIDUAL_UNDERFLOW)
    outcome.transferred_bytes -=
        std::min<std::uint32_t>(static_cast<std::uint32_t>(task.residual), command.length_bytes);
  return outcome;
}
}  // namespace

IscsiData IscsiData::of(std::vector<std::byte> bytes) {
  IscsiData data;
  data.owned = std::make_shared<std::vector<std::byte>>(std::move(bytes));
  data.vectors.push_back({data.owned->data(), data.owned->size()});
  return data;
}

struct IscsiConnection::Native {
  static void connected(iscsi_context* context, int status, void*, void* connection) {
    auto* self = static_cast<IscsiConnection*>(connection);
    // Called again, with an error, when an established connection ends.
    if (status == SCSI_STATUS_GOOD && !self->logged_in_ &&
        iscsi_login_async(context, &Native::logged_in, connection) == 0)
      return;
    self->break_off(iscsi_get_error(context));
    self->login_ended_.set();
  }

  static void logged_in(iscsi_context* context, int status, void*, void* connection) {
    auto* self = static_cast<IscsiConnection*>(connection);
    self->login_status_ = status;
    self->logged_in_ = status == SCSI_STATUS_GOOD;
    if (!self->logged_in_) self->break_off(iscsi_get_error(context));
    self->login_ended_.set();
  }

  /// Takes the command off the list; what is left of it belongs to whoever waits.
  static std::shared_ptr<InFlight> take(void* one) {
    auto* flight = static_cast<InFlight*>(one);
    std::shared_ptr<InFlight> kept = *flight->position;
    flight->connection.in_flight_.erase(flight->position);
    return kept;
  }

  static void ended(iscsi_context* context, int status, void*, void* one) {
    std::shared_ptr<InFlight> flight = take(one);
    constexpr int kMostStatus = 0xFF;  // above are libiscsi's own: cancelled, error, timeout
    if (status <= kMostStatus) {
      flight->answer = {true, outcome_of(status, *flight->task, flight->command)};
    } else {
      flight->connection.break_off(iscsi_get_error(context));
    }
    scsi_free_scsi_task(std::exchange(flight->task, nullptr));
    flight->done.set();
  }

  static void managed(iscsi_context* context, int status, void* response, void* one) {
    std::shared_ptr<InFlight> flight = take(one);
    flight->answer.answered = status == SCSI_STATUS_GOOD && response != nullptr;
    if (flight->answer.answered) {
      flight->management_response = *static_cast<std::uint32_t*>(response);
    } else {
      flight->connection.break_off(iscsi_get_error(context));
    }
    flight->done.set();
  }

  static void logged_out(iscsi_context*, int, void*, void* connection) {
    static_cast<IscsiConnection*>(connection)->break_off("logged out");
  }
};

Task<Result<std::unique_ptr<IscsiConnection>>> IscsiConnection::connect(EventLoop& loop, IscsiIdentity identity,
                                                                        std::string portal, Duration timeout) {
  for (int redirections = 0;; ++redirections) {
    auto connection = std::unique_ptr<IscsiConnection>(new IscsiConnection(loop, identity, timeout));
    CO_TRY_VOID(connection->prepare());
    Result<> entered = co_await connection->log_in(portal);
    if (entered) co_return std::move(connection);
    if (connection->login_status_ != SCSI_STATUS_REDIRECT || redirections == kMostRedirections)
      co_return std::unexpected(std::move(entered).error());
    portal = iscsi_get_target_address(connection->context_);
  }
}

IscsiConnection::IscsiConnection(EventLoop& loop, IscsiIdentity identity, Duration timeout)
    : loop_(loop),
      identity_(std::move(identity)),
      timeout_(timeout),
      login_ended_(loop.executor()),
      broken_(loop.executor()),
      work_(loop.executor()),
      timekeeper_(loop.executor()) {
  loop_.add_hook(*this);
}

IscsiConnection::~IscsiConnection() {
  loop_.remove_hook(*this);
  watch_.reset();
  // Ends what is in flight, unanswered, unless the session has ended before: then libiscsi forgets it without a word.
  if (context_ != nullptr) iscsi_destroy_context(context_);
  while (!in_flight_.empty()) {
    std::shared_ptr<InFlight> flight = Native::take(in_flight_.front().get());
    if (flight->task != nullptr) scsi_free_scsi_task(flight->task);
    flight->done.set();
  }
}

Result<> IscsiConnection::prepare() {
  context_ = iscsi_create_context(identity_.initiator.c_str());
  if (context_ == nullptr) return fail(ENOMEM, "no memory for an iSCSI session");
  iscsi_set_noautoreconnect(context_, 1);
  iscsi_set_isid_random(context_, identity_.session_random, identity_.session_qualifier);
  bool set = iscsi_set_session_type(context_, ISCSI_SESSION_NORMAL) == 0 &&
             iscsi_set_header_digest(context_, ISCSI_HEADER_DIGEST_NONE_CRC32C) == 0 &&
             iscsi_set_targetname(context_, identity_.target.c_str()) == 0;
  if (set && !identity_.user.empty()) {
    set = iscsi_set_initiator_username_pwd(context_, identity_.user.c_str(), identity_.secret.c_str()) == 0;
  }
  if (!set) return fail(EINVAL, "{}", iscsi_get_error(context_));
  auto timeout_ms = std::chrono::duration_cast<std::chrono::milliseconds>(timeout_).count();
  iscsi_set_tcp_user_timeout(context_, static_cast<int>(timeout_ms));
  poller_ = FileDescriptor(epoll_create1(EPOLL_CLOEXEC));
  if (!poller_) return fail(errno, "epoll_create1: {}", std::strerror(errno));
  TRY(watch_, loop_.watch_readable(poller_.get(), [this] { return drain(); }));
  return {};
}

Task<Result<>> IscsiConnection::log_in(std::string portal) {
  if (iscsi_connect_async(context_, portal.c_str(), &Native::connected, this) != 0)
    co_return fail_device(ECONNREFUSED, "{}: {}", portal, iscsi_get_error(context_));
  watch_events();
  bool in_time = co_await login_ended_.wait_until(loop_.executor().now() + timeout_);
  if (!in_time) co_return fail_device(ETIMEDOUT, "{} does not answer the login", portal);
  if (!logged_in_) co_return login_error();
  // Only an established session is watched over; a login has its own time limit.
  timekeeper_.spawn(watch_time());
  to_send_ = true;
  co_return Result<>{};
}

std::unexpected<Error> IscsiConnection::login_error() const {
  switch (status_in(reason_)) {
    case kAuthenticationFailed:
      return fail_device(EACCES, "the target refused the login: {} credentials (CHAP user and secret)",
                         identity_.user.empty() ? "it wants" : "wrong");
    case kForbidden:
      return fail_device(EACCES, "the target does not allow initiator {}: add it to the target's access list",
                         identity_.initiator);
    case kNotFound:
    case kRemoved:
      return fail_device(ENOENT, "there is no target {} there", identity_.target);
    default:
      return fail_device(ECONNREFUSED, "{}", reason_);
  }
}

void IscsiConnection::give_up(std::string reason) {
  break_off(std::move(reason));
  epoll_ctl(poller_.get(), EPOLL_CTL_DEL, iscsi_get_fd(context_), nullptr);
}

void IscsiConnection::break_off(std::string reason) {
  if (broken_.is_set()) return;
  reason_ = std::move(reason);
  broken_.set();
}

void IscsiConnection::watch_events() {
  int wanted = iscsi_which_events(context_);
  std::uint32_t events = ((wanted & POLLIN) != 0 ? EPOLLIN : 0u) | ((wanted & POLLOUT) != 0 ? EPOLLOUT : 0u);
  // During login libiscsi may open another socket under the same number.
  if (logged_in_ && events == watched_events_) return;
  epoll_event event{.events = events, .data = {}};
  int socket = iscsi_get_fd(context_);
  if (epoll_ctl(poller_.get(), EPOLL_CTL_MOD, socket, &event) != 0 &&
      epoll_ctl(poller_.get(), EPOLL_CTL_ADD, socket, &event) != 0)
    return break_off(fmt::format("epoll_ctl: {}", std::strerror(errno)));
  watched_events_ = events;
}

EventLoop::Drained IscsiConnection::drain() {
  epoll_event event{};
  if (broken_.is_set() || epoll_wait(poller_.get(), &event, 1, 0) != 1) return EventLoop::Drained::all;
  int events = ((event.events & EPOLLIN) != 0 ? POLLIN : 0) | ((event.events & EPOLLOUT) != 0 ? POLLOUT : 0) |
               ((event.events & EPOLLERR) != 0 ? POLLERR : 0) | ((event.events & EPOLLHUP) != 0 ? POLLHUP : 0);
  // What came before the end is read first.
  if ((events & POLLIN) != 0) events &= ~(POLLERR | POLLHUP);
  service(events);
  return EventLoop::Drained::all;
}

void IscsiConnection::service(int events) {
  if (iscsi_service(context_, events) != 0) {
    break_off(iscsi_get_error(context_));
    login_ended_.set();
  }
  if (broken_.is_set()) {
    // Not looked at any more; whoever owns this destroys it.
    epoll_ctl(poller_.get(), EPOLL_CTL_DEL, iscsi_get_fd(context_), nullptr);
    return;
  }
  if (logged_in_ && in_flight_.empty() && (events & POLLIN) != 0) notice_end_of_stream();
  if (!broken_.is_set()) watch_events();
}

/// With nobody waiting for an answer, libiscsi takes the end of the stream without a word.
void IscsiConnection::notice_end_of_stream() {
  char byte = 0;
  ssize_t length = recv(iscsi_get_fd(context_), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  if (length == 0) return break_off("the target closed the connection");
  if (length < 0 && errno != EAGAIN && errno != EINTR) break_off(std::strerror(errno));
}

bool IscsiConnection::end_turn() {
  if (!to_send_) return false;
  to_send_ = false;
  if (!broken_.is_set() && (iscsi_which_events(context_) & POLLOUT) != 0) service(POLLOUT);
  return broken_.is_set();
}

/// Gives the connection up when a command takes too long: only a new session makes sure that it is not executed late.
Task<void> IscsiConnection::watch_time() {
  Executor& executor = loop_.executor();
  while (!broken_.is_set()) {
    if (in_flight_.empty()) {
      co_await work_.wait();
    } else if (InFlight& oldest = *in_flight_.front(); executor.now() - oldest.sent > timeout_) {
      give_up(fmt::format("{} was not answered within {} s", oldest.command.name,
                          std::chrono::duration_cast<std::chrono::seconds>(timeout_).count()));
    }
    co_await executor.sleep_for(std::min(kTick, timeout_));
  }
}

Task<IscsiConnection::Answer> IscsiConnection::perform(scsi::Command command, IscsiData data) {
  static_assert(sizeof(scsi_iovec) == sizeof(iovec));
  if (broken_.is_set()) co_return Answer{};
  auto flight = std::make_shared<InFlight>(*this, loop_.executor().now());
  flight->command = command;
  flight->data = std::move(data);
  flight->task = scsi_create_task(command.cdb_length, flight->command.cdb.data(), direction_of(command),
                                  static_cast<int>(command.length_bytes));
  if (flight->task == nullptr) throw std::bad_alloc();
  auto* list = reinterpret_cast<scsi_iovec*>(flight->data.vectors.data());
  auto length = static_cast<int>(flight->data.vectors.size());
  if (command.direction == scsi::Command::Direction::from_device) scsi_task_set_iov_in(flight->task, list, length);
  if (command.direction == scsi::Command::Direction::to_device) scsi_task_set_iov_out(flight->task, list, length);
  flight->position = in_flight_.insert(in_flight_.end(), flight);
  if (iscsi_scsi_command_async(context_, static_cast<int>(identity_.lun), flight->task, &Native::ended, nullptr,
                               flight.get()) != 0) {
    in_flight_.erase(flight->position);
    scsi_free_scsi_task(flight->task);
    break_off(iscsi_get_error(context_));
    co_return Answer{};
  }
  to_send_ = true;
  work_.notify_all();
  co_await flight->done.wait();
  co_return flight->answer;
}

Task<Result<>> IscsiConnection::reset_logical_unit() {
  auto flight = std::make_shared<InFlight>(*this, loop_.executor().now());
  flight->command.name = "LOGICAL UNIT RESET";
  if (!broken_.is_set()) {
    flight->position = in_flight_.insert(in_flight_.end(), flight);
    if (iscsi_task_mgmt_async(context_, static_cast<int>(identity_.lun), ISCSI_TM_LUN_RESET, kNoTask, 0,
                              &Native::managed, flight.get()) != 0) {
      in_flight_.erase(flight->position);
      break_off(iscsi_get_error(context_));
    }
  }
  if (!broken_.is_set()) {
    to_send_ = true;
    work_.notify_all();
    co_await flight->done.wait();
  }
  if (!flight->answer.answered) co_return fail_device(ECONNABORTED, "the connection broke");
  switch (flight->management_response) {
    case ISCSI_TMR_FUNC_COMPLETE:
      co_return Result<>{};
    case ISCSI_TMR_TMF_NOT_SUPPORTED:
      co_return fail_device(EOPNOTSUPP, "the target has no LOGICAL UNIT RESET");
    default:
      co_return fail_device(EIO, "LOGICAL UNIT RESET failed with response {}", flight->management_response);
  }
}

void IscsiConnection::begin_logout() {
  if (broken_.is_set()) return;
  if (iscsi_logout_async(context_, &Native::logged_out, this) != 0) return give_up("closed");
  to_send_ = true;
}

}  // namespace corral
