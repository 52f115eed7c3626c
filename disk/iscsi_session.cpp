#include "disk/iscsi_session.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include <netdb.h>
#include <sys/random.h>
#include <sys/socket.h>

#include "disk/reservation_format.h"
#include "disk/scsi_reservations.h"

namespace corral {

using namespace std::chrono_literals;
using scsi::Status;

namespace {
constexpr Duration kFirstPause = 50ms;
constexpr Duration kLongestPause = 2s;
constexpr Duration kBusyPause = 50ms;
constexpr Duration kLogoutTime = 2s;
/// Unit attentions that one nexus may find waiting.
constexpr int kMostAttentions = 64;
constexpr std::uint16_t kIdentificationBytes = 252;

std::unexpected<Error> refused(const scsi::Command& command, const scsi::Outcome& outcome) {
  return fail_device(scsi::error_code(outcome), "{} failed: {}", command.name, scsi::describe(outcome));
}

std::vector<std::byte> what_came(const IscsiData& data, const scsi::Outcome& outcome) {
  std::span<const std::byte> all(*data.owned);
  auto came = all.first(std::min<std::size_t>(all.size(), outcome.transferred_bytes));
  return {came.begin(), came.end()};
}

/// Once. The connection may be gone when it returns.
Task<Result<scsi::Outcome>> execute_on(IscsiConnection& connection, std::string name, scsi::Command command,
                                       std::span<std::byte> data) {
  IscsiData copy = IscsiData::of({data.begin(), data.end()});
  IscsiConnection::Answer answer = co_await connection.perform(command, copy);
  if (!answer.answered) {
    co_return fail_device(ECONNABORTED, "{}: the connection broke during {}: it may have been executed", name,
                          command.name);
  }
  if (command.direction == scsi::Command::Direction::from_device) std::ranges::copy(*copy.owned, data.begin());
  co_return answer.outcome;
}

/// A connection that is being made, before anybody else may use it.
class FreshConnection final : public scsi::Transport {
 public:
  FreshConnection(IscsiConnection& connection, const std::string& name) : connection_(connection), name_(name) {}
  const std::string& name() const override { return name_; }
  Task<Result<scsi::Outcome>> execute(scsi::Command command, std::span<std::byte> data) override {
    return execute_on(connection_, name_, command, data);
  }
  Task<Result<>> reset_logical_unit() override { co_return fail(EOPNOTSUPP); }

 private:
  IscsiConnection& connection_;
  const std::string& name_;
};

/// A place among the commands that a connection takes.
struct Start {
  explicit Start(std::shared_ptr<Semaphore> semaphore) : of(std::move(semaphore)) {}
  Start(const Start&) = delete;
  Start& operator=(const Start&) = delete;
  ~Start() { of->release(given_back); }
  std::shared_ptr<Semaphore> of;
  std::uint64_t given_back = 0;
};

/// Somebody has reset the logical unit or cleared its task set: what else was in flight may never be answered.
bool tells_of_aborted_commands(const scsi::Sense& sense) {
  return scsi::is_power_on_attention(sense) || (sense.key == scsi::kUnitAttention && sense.asc == 0x2F);
}

/// Address and port in digits; blocking.
Result<std::string> look_up(const std::string& host, std::uint16_t port) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (int error = getaddrinfo(host.c_str(), nullptr, &hints, &found); error != 0)
    return fail(EHOSTUNREACH, "host {}: {}", host, gai_strerror(error));
  std::array<char, NI_MAXHOST> text{};
  int error = getnameinfo(found->ai_addr, found->ai_addrlen, text.data(), text.size(), nullptr, 0, NI_NUMERICHOST);
  freeaddrinfo(found);
  if (error != 0) return fail(EHOSTUNREACH, "host {}: {}", host, gai_strerror(error));
  IscsiName numeric;
  numeric.host = text.data();
  numeric.port = port;
  return numeric.portal();
}
}  // namespace

IscsiSession::IscsiSession(EventLoop& loop, IscsiName name, std::string shown_name, bool writes)
    : loop_(loop),
      executor_(loop.executor()),
      target_(std::move(name)),
      shown_name_(std::move(shown_name)),
      writes_(writes),
      helper_(loop, 1),
      changed_(loop.executor()),
      keeper_(std::in_place, loop.executor()) {}

IscsiSession::~IscsiSession() = default;

Task<Result<std::unique_ptr<IscsiSession>>> IscsiSession::open(EventLoop& loop, IscsiName name, std::string shown_name,
                                                               bool writes) {
  auto session = std::unique_ptr<IscsiSession>(new IscsiSession(loop, std::move(name), std::move(shown_name), writes));
  IscsiIdentity& identity = session->identity_;
  CO_TRY(identity.initiator, initiator_name(session->target_));
  identity.target = session->target_.target;
  identity.lun = session->target_.lun;
  identity.user = session->target_.user;
  if (!identity.user.empty()) {
    CO_TRY(identity.secret, read_secret(session->target_.secret_file));
  }
  // A nexus of this process alone: programs on one host must not end each other's sessions.
  std::uint64_t random = 0;
  if (getrandom(&random, sizeof(random), 0) != sizeof(random)) co_return fail(EIO, "no random numbers to be had");
  identity.session_random = static_cast<std::uint32_t>(random) & 0xFFFFFF;
  identity.session_qualifier = static_cast<std::uint16_t>(random >> 32);
  Result<> connected = co_await session->connect();
  if (!connected) co_return std::unexpected(connected.error().within(session->shown_name_));
  session->keeper_->spawn(session->keep_connected());
  co_return std::move(session);
}

std::unexpected<Error> IscsiSession::closed() const {
  return fail_device(ESHUTDOWN, "{}: the device is closed", shown_name_);
}

Task<Result<std::string>> IscsiSession::resolve_portal() {
  auto portal = std::make_shared<Result<std::string>>();
  co_await helper_.run([portal, host = target_.host, port = target_.port] { *portal = look_up(host, port); });
  co_return std::move(*portal);
}

Task<Result<>> IscsiSession::connect() {
  CO_TRY(std::string portal, co_await resolve_portal());
  auto connection = co_await IscsiConnection::connect(loop_, identity_, std::move(portal), target_.timeout);
  if (!connection) co_return std::unexpected(std::move(connection).error());
  CO_TRY_VOID(co_await examine(**connection));
  connection_ = *std::move(connection);
  starts_ = std::make_shared<Semaphore>(executor_, 1);
  ++connections_;
  changed_.notify_all();
  co_return Result<>{};
}

/// Makes sure of what is at the other end before anything is read or written there.
Task<Result<>> IscsiSession::examine(IscsiConnection& connection) {
  CO_TRY(std::vector<std::byte> data, co_await query_on(connection, scsi::inquiry(scsi::kInquiryBytes)));
  CO_TRY(scsi::Inquiry inquiry, scsi::decode_inquiry(data));
  if (inquiry.qualifier != 0) co_return fail_device(ENXIO, "the target has no LUN {}", target_.lun);
  if (inquiry.device_type != 0)
    co_return fail_device(ENOTBLK, "LUN {} is no disk but a device of type {}", target_.lun, inquiry.device_type);
  bool power_on = std::exchange(power_on_seen_, false);
  CO_TRY_VOID(co_await await_ready(connection, power_on));
  CO_TRY_VOID(co_await identify(connection));
  co_await look_for_power_loss(connection, power_on);
  CO_TRY_VOID(co_await restore_own_registration(connection));
  co_await make_power_witness(connection);
  co_return Result<>{};
}

/// Takes in the unit attentions that a new nexus finds, and waits for a disk that is starting up.
Task<Result<>> IscsiSession::await_ready(IscsiConnection& connection, bool& power_on) {
  const Time give_up = executor_.now() + target_.timeout;
  int attentions = 0;
  for (;;) {
    IscsiConnection::Answer answer = co_await connection.perform(scsi::test_unit_ready(), {});
    if (!answer.answered) co_return fail_device(ECONNABORTED, "{}", connection.reason());
    const scsi::Outcome& outcome = answer.outcome;
    if (outcome.status == Status::good || outcome.status == Status::reservation_conflict) co_return Result<>{};
    if (outcome.sense.key == scsi::kUnitAttention && ++attentions < kMostAttentions) {
      power_on |= scsi::is_power_on_attention(outcome.sense);
      continue;
    }
    bool passing = outcome.status == Status::busy || outcome.status == Status::task_set_full ||
                   outcome.sense.key == scsi::kNotReady;
    if (!passing || executor_.now() > give_up) co_return refused(scsi::test_unit_ready(), outcome);
    co_await executor_.sleep_for(kBusyPause);
  }
}

Task<Result<>> IscsiSession::identify(IscsiConnection& connection) {
  CO_TRY(std::vector<std::byte> data, co_await query_on(connection, scsi::read_capacity()));
  CO_TRY(scsi::Capacity capacity, scsi::decode_capacity(data));
  std::vector<std::byte> identification;
  auto page = co_await query_on(connection, scsi::inquiry_page(scsi::kIdentificationPage, kIdentificationBytes));
  if (!page && page.error().code() != EOPNOTSUPP) co_return std::unexpected(std::move(page).error());
  if (page) identification = *std::move(page);
  bool first = !capacity_;
  bool same = !first && capacity.blocks >= capacity_->blocks && capacity.block_bytes == capacity_->block_bytes &&
              identification == identification_;
  if (!first && !same) {
    wrong_disk_ = true;
    co_return fail_device(EIO, "another disk is found there now ({} blocks of {} bytes)", capacity.blocks,
                          capacity.block_bytes);
  }
  if (first) {
    capacity_ = capacity;
    identification_ = std::move(identification);
  }
  co_return Result<>{};
}

Task<void> IscsiSession::look_for_power_loss(IscsiConnection& connection, bool power_on) {
  auto keys = co_await read_keys_on(connection);
  if (power_on && connections_ > 0 && !(keys && witness_.vouches_for(*keys))) write_cache_.note_loss();
  if (keys) witness_.generation = keys->generation;
}

Task<Result<>> IscsiSession::restore_own_registration(IscsiConnection& connection) {
  if (own_key_.value == 0 || connections_ == 0) co_return Result<>{};
  FreshConnection transport(connection, shown_name_);
  ScsiReservations reservations(executor_, transport);
  CO_TRY_VOID(co_await restore_registration(reservations, own_key_, own_key_persists_));
  CO_TRY(RegisteredKeys keys, co_await read_keys_on(connection));
  witness_.generation = keys.generation;
  co_return Result<>{};
}

/// Where nobody is or was registered since the disk's power on, a registration that comes and goes moves the generation
/// off 0, so that a later power on can be told from a lost connection. Does what it can.
Task<void> IscsiSession::make_power_witness(IscsiConnection& connection) {
  if (!writes_ || witness_.generation != 0) co_return;
  FreshConnection transport(connection, shown_name_);
  ScsiReservations reservations(executor_, transport);
  const ReservationKey passing(0x434F5252414C0001u + (std::uint64_t{identity_.session_qualifier} << 1));
  Result<> entered = co_await reservations.register_key({}, passing, false);
  if (!entered) co_return;
  [[maybe_unused]] Result<> left = co_await reservations.register_key(passing, {}, false);
  if (auto keys = co_await reservations.read_keys()) witness_.generation = keys->generation;
}

Task<Result<std::vector<std::byte>>> IscsiSession::query_on(IscsiConnection& connection, scsi::Command command) {
  for (int attentions = 0;; ++attentions) {
    IscsiData data = IscsiData::of(std::vector<std::byte>(command.length_bytes));
    IscsiConnection::Answer answer = co_await connection.perform(command, data);
    if (!answer.answered) co_return fail_device(ECONNABORTED, "{}", connection.reason());
    if (answer.outcome.status == Status::good) co_return what_came(data, answer.outcome);
    if (answer.outcome.sense.key != scsi::kUnitAttention || attentions == kMostAttentions)
      co_return refused(command, answer.outcome);
  }
}

Task<Result<RegisteredKeys>> IscsiSession::read_keys_on(IscsiConnection& connection) {
  using namespace reservation_format;
  constexpr auto kBytes = static_cast<std::uint16_t>(key_list_bytes(1024));
  CO_TRY(std::vector<std::byte> data, co_await query_on(connection, reserve_in(Query::read_keys, kBytes)));
  CO_TRY(KeyList list, decode_keys(data));
  co_return std::move(list.registered);
}

Task<void> IscsiSession::keep_connected() {
  for (;;) {
    co_await connection_->broken().wait();
    down_since_ = executor_.now();
    last_error_ = Error(ECONNABORTED, connection_->reason(), ErrorKind::device);
    connection_.reset();
    changed_.notify_all();
    for (Duration pause = kFirstPause; !closing_ && !wrong_disk_; pause = std::min(2 * pause, kLongestPause)) {
      Result<> connected = co_await connect();
      if (connected) break;
      last_error_ = connected.error();
      [[maybe_unused]] bool notified = co_await changed_.wait_until(executor_.now() + pause);
    }
    if (!connection_) break;
  }
  changed_.notify_all();
}

Task<Result<IscsiConnection*>> IscsiSession::connected() {
  while (!connection_ || connection_->broken().is_set()) {
    if (closing_) co_return closed();
    // The keeper has yet to see that the connection broke; it runs within this turn.
    if (connection_) {
      co_await executor_.yield();
      continue;
    }
    bool waiting = !wrong_disk_ && executor_.now() < down_since_ + target_.recovery;
    if (!waiting) {
      co_return fail_device(ETIMEDOUT, "{}: the connection was lost and could not be made again: {}", shown_name_,
                            last_error_.describe());
    }
    [[maybe_unused]] bool notified = co_await changed_.wait_until(down_since_ + target_.recovery);
  }
  if (closing_) co_return closed();
  co_return connection_.get();
}

/// True where the command was not executed, or not to its end, and may be sent again.
bool IscsiSession::meet_obstacle(const scsi::Outcome& outcome) {
  if (outcome.status == Status::busy || outcome.status == Status::task_set_full ||
      outcome.status == Status::task_aborted)
    return true;
  if (outcome.status != Status::check_condition) return false;
  if (outcome.sense.key == scsi::kAbortedCommand || outcome.sense.key == scsi::kNotReady) return true;
  if (outcome.sense.key != scsi::kUnitAttention) return false;
  power_on_seen_ |= scsi::is_power_on_attention(outcome.sense);
  if (tells_of_aborted_commands(outcome.sense) && connection_)
    connection_->give_up(fmt::format("the logical unit was reset ({})", scsi::describe(outcome)));
  return true;
}

/// Once, when the connection takes one more.
Task<Result<IscsiConnection::Answer>> IscsiSession::send(scsi::Command command, IscsiData data) {
  CO_TRY_VOID(co_await connected());
  Start start(starts_);
  co_await start.of->acquire(1);
  start.given_back = 1;
  IscsiConnection::Answer answer;
  if (connection_ && start.of == starts_) answer = co_await connection_->perform(command, std::move(data));
  if (answer.answered) start.given_back = 2;
  co_return answer;
}

Task<Result<scsi::Outcome>> IscsiSession::perform(scsi::Command command, IscsiData data) {
  CO_TRY_VOID(co_await connected());
  const Time give_up = executor_.now() + target_.recovery + target_.timeout;
  for (;;) {
    CO_TRY(IscsiConnection::Answer answer, co_await send(command, data));
    if (answer.answered && !meet_obstacle(answer.outcome)) co_return answer.outcome;
    if (executor_.now() > give_up) {
      co_return fail_device(ETIMEDOUT, "{}: {} did not succeed in time: {}", shown_name_, command.name,
                            answer.answered ? scsi::describe(answer.outcome) : "the connection broke again and again");
    }
    bool attention = answer.answered && answer.outcome.sense.key == scsi::kUnitAttention;
    if (answer.answered && !attention) co_await executor_.sleep_for(kBusyPause);
  }
}

Task<Result<std::vector<std::byte>>> IscsiSession::query(scsi::Command command) {
  IscsiData data = IscsiData::of(std::vector<std::byte>(command.length_bytes));
  CO_TRY(scsi::Outcome outcome, co_await perform(command, data));
  if (outcome.status != Status::good) co_return refused(command, outcome);
  co_return what_came(data, outcome);
}

Task<Result<scsi::Outcome>> IscsiSession::execute(scsi::Command command, std::span<std::byte> data) {
  CO_TRY(IscsiConnection * connection, co_await connected());
  CO_TRY(scsi::Outcome outcome, co_await execute_on(*connection, shown_name_, command, data));
  meet_obstacle(outcome);
  constexpr std::uint8_t kReserveOut = 0x5F;
  if (outcome.status == Status::good && command.cdb[0] == kReserveOut && data.size() >= 24)
    co_await note_change(command, ReservationKey(scsi::get_big(data, 8, 8)), data[20] != std::byte{0});
  co_return outcome;
}

/// A change of the registrations that this nexus has made, as evidence for later.
Task<void> IscsiSession::note_change(scsi::Command command, ReservationKey new_key, bool persists) {
  using namespace reservation_format;
  auto action = static_cast<Action>(command.cdb[1] & 0x1F);
  if (action == Action::clear) own_key_ = {};
  if (action == Action::register_key || action == Action::register_and_ignore) {
    own_key_ = new_key;
    own_key_persists_ = persists;
  }
  witness_.own_key = own_key_persists_ ? ReservationKey() : own_key_;
  auto data = co_await query(reserve_in(Query::read_keys, static_cast<std::uint16_t>(key_list_bytes(0))));
  if (!data) co_return;
  if (auto list = decode_keys(*data)) witness_.generation = list->registered.generation;
}

Task<Result<>> IscsiSession::reset_logical_unit() {
  CO_TRY(IscsiConnection * connection, co_await connected());
  Result<> reset = co_await connection->reset_logical_unit();
  // What this nexus had in flight is aborted as well, and mostly goes unanswered.
  if (reset && connection_) connection_->give_up("the logical unit was reset");
  if (!reset) co_return std::unexpected(reset.error().within(shown_name_));
  co_return Result<>{};
}

Task<void> IscsiSession::close() {
  closing_ = true;
  if (connection_) connection_->begin_logout();
  for (Time give_up = executor_.now() + kLogoutTime; connection_ && executor_.now() < give_up;) [[maybe_unused]]
    bool notified = co_await changed_.wait_until(give_up);
  keeper_.reset();
  connection_.reset();
}

}  // namespace corral
