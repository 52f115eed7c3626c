#include "disk/scsi_reservations.h"

#include <algorithm>
#include <array>
#include <vector>

namespace corral {

using namespace std::chrono_literals;
using namespace reservation_format;

namespace {
/// Unit attentions queue up while a nexus is idle, one per change that others made.
constexpr int kAttempts = 64;
constexpr Duration kBusyPause = 100ms;
constexpr std::size_t kFirstKeys = 32;
}  // namespace

ScsiReservations::ScsiReservations(Executor& executor, scsi::Transport& transport)
    : executor_(executor), transport_(transport), turn_(executor) {}

std::unexpected<Error> ScsiReservations::refused(const scsi::Command& command, const scsi::Outcome& outcome) const {
  return fail_device(scsi::error_code(outcome), "{}: {} failed: {}", transport_.name(), command.name,
                     scsi::describe(outcome));
}

Task<Result<scsi::Outcome>> ScsiReservations::execute(scsi::Command command, std::span<std::byte> data,
                                                      bool stop_at_changes) {
  Result<scsi::Outcome> outcome;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    outcome = co_await transport_.execute(command, data);
    bool asks_only = command.direction == scsi::Command::Direction::from_device;
    if (!outcome && asks_only && outcome.error().code() == ECONNABORTED) continue;
    if (!outcome) co_return outcome;
    if (outcome->status == scsi::Status::busy || outcome->status == scsi::Status::task_set_full) {
      co_await executor_.sleep_for(kBusyPause);
      continue;
    }
    bool attention = outcome->status == scsi::Status::check_condition && outcome->sense.key == scsi::kUnitAttention;
    if (!attention) co_return outcome;
    // A command that met a unit attention was not executed (SAM-5 5.14).
    if (stop_at_changes && scsi::is_reservation_attention(outcome->sense)) {
      co_return fail_device(EAGAIN, "{}: {} was not executed: {}; read the keys and decide anew", transport_.name(),
                            command.name, scsi::describe(*outcome));
    }
  }
  co_return outcome;
}

Task<Result<>> ScsiReservations::change(Action action, ReservationKey key, ReservationKey action_key, bool persist) {
  Mutex::Guard turn = co_await turn_.lock();
  scsi::Command command = reserve_out(action);
  auto parameters = encode_parameters(key, action_key, persist);
  // All others name this nexus's own key, and the disk refuses them where that key has been removed.
  bool stop_at_changes = action == Action::register_and_ignore;
  CO_TRY(scsi::Outcome outcome, co_await execute(command, parameters, stop_at_changes));
  if (outcome.status != scsi::Status::good) co_return refused(command, outcome);
  co_return Result<>{};
}

Task<Result<>> ScsiReservations::register_key(ReservationKey old_key, ReservationKey new_key, bool persist) {
  co_return co_await change(Action::register_key, old_key, new_key, persist);
}

Task<Result<>> ScsiReservations::register_and_ignore(ReservationKey new_key, bool persist) {
  co_return co_await change(Action::register_and_ignore, {}, new_key, persist);
}

Task<Result<>> ScsiReservations::reserve(ReservationKey own_key) {
  co_return co_await change(Action::reserve, own_key, {}, false);
}

Task<Result<>> ScsiReservations::release(ReservationKey own_key) {
  co_return co_await change(Action::release, own_key, {}, false);
}

Task<Result<>> ScsiReservations::clear(ReservationKey own_key) {
  co_return co_await change(Action::clear, own_key, {}, false);
}

Task<Result<>> ScsiReservations::preempt(ReservationKey own_key, ReservationKey victim) {
  co_return co_await change(Action::preempt, own_key, victim, false);
}

Task<Result<>> ScsiReservations::preempt_and_abort(ReservationKey own_key, ReservationKey victim) {
  co_return co_await change(Action::preempt_and_abort, own_key, victim, false);
}

Task<Result<std::size_t>> ScsiReservations::query(Query query, std::span<std::byte> into) {
  scsi::Command command = reserve_in(query, static_cast<std::uint16_t>(into.size()));
  CO_TRY(scsi::Outcome outcome, co_await execute(command, into, false));
  if (outcome.status != scsi::Status::good) co_return refused(command, outcome);
  co_return std::min<std::size_t>(outcome.transferred_bytes, into.size());
}

Task<Result<RegisteredKeys>> ScsiReservations::read_keys() {
  Mutex::Guard turn = co_await turn_.lock();
  // The list may grow between two looks.
  for (std::size_t room = key_list_bytes(kFirstKeys);;) {
    std::vector<std::byte> data(room);
    CO_TRY(std::size_t length, co_await query(Query::read_keys, data));
    auto list = decode_keys(std::span(data).first(length));
    if (!list) co_return std::unexpected(list.error().within(transport_.name()));
    if (list->registered.keys.size() == (list->needed_bytes - key_list_bytes(0)) / 8)
      co_return std::move(list->registered);
    if (list->needed_bytes <= room || list->needed_bytes > kMostListBytes) {
      co_return fail_device(EPROTO, "{}: READ KEYS tells of {} bytes and gave {}", transport_.name(),
                            list->needed_bytes, length);
    }
    room = list->needed_bytes;
  }
}

Task<Result<ReservationState>> ScsiReservations::read_reservation() {
  Mutex::Guard turn = co_await turn_.lock();
  std::array<std::byte, kReservationBytes> data{};
  CO_TRY(std::size_t length, co_await query(Query::read_reservation, data));
  auto state = decode_reservation(std::span(data).first(length));
  if (!state) co_return std::unexpected(state.error().within(transport_.name()));
  co_return *state;
}

Task<Result<ReservationCapabilities>> ScsiReservations::report_capabilities() {
  Mutex::Guard turn = co_await turn_.lock();
  std::array<std::byte, kCapabilitiesBytes> data{};
  CO_TRY(std::size_t length, co_await query(Query::report_capabilities, data));
  auto capabilities = decode_capabilities(std::span(data).first(length));
  if (!capabilities) co_return std::unexpected(capabilities.error().within(transport_.name()));
  capabilities->logical_unit_reset = true;
  scsi::Command ask = scsi::report_support(0x5F, static_cast<std::uint16_t>(Action::preempt_and_abort));
  std::array<std::byte, scsi::kSupportBytes> answer{};
  CO_TRY(scsi::Outcome outcome, co_await execute(ask, answer, false));
  if (outcome.status == scsi::Status::good) {
    std::size_t came = std::min<std::size_t>(outcome.transferred_bytes, answer.size());
    capabilities->preempt_and_abort = scsi::decode_support(std::span(answer).first(came));
  }
  co_return *capabilities;
}

Task<Result<>> ScsiReservations::reset_logical_unit() {
  Mutex::Guard turn = co_await turn_.lock();
  co_return co_await transport_.reset_logical_unit();
}

}  // namespace corral
