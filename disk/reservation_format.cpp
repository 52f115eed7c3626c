#include "disk/reservation_format.h"

#include <algorithm>

#include "base/check.h"

namespace corral::reservation_format {

namespace {
using Bytes = std::span<const std::byte>;
constexpr std::uint8_t kTypeFive = static_cast<std::uint8_t>(ReservationType::write_exclusive_registrants_only);

bool takes_type(Action action) {
  return action == Action::reserve || action == Action::release || action == Action::preempt ||
         action == Action::preempt_and_abort;
}

Result<ReservationType> type_of(std::uint64_t number) {
  auto type = static_cast<ReservationType>(number);
  switch (type) {
    case ReservationType::write_exclusive:
    case ReservationType::exclusive_access:
    case ReservationType::write_exclusive_registrants_only:
    case ReservationType::exclusive_access_registrants_only:
    case ReservationType::write_exclusive_all_registrants:
    case ReservationType::exclusive_access_all_registrants:
      return type;
    case ReservationType::none:
      break;
  }
  return fail(EPROTO, "a reservation of the unknown type {} is reported", number);
}

std::uint64_t get_little(Bytes data, std::size_t offset, std::size_t bytes) {
  CHECK_INVARIANT(bytes <= 8 && offset + bytes <= data.size());
  std::uint64_t value = 0;
  for (std::size_t i = bytes; i > 0; --i)
    value = value << 8 | std::to_integer<std::uint64_t>(data[offset + i - 1]);
  return value;
}

/// NVMe 1.4 figure 249 has types of its own numbering.
Result<ReservationType> nvme_type_of(std::uint64_t number) {
  constexpr std::array kTypes{ReservationType::none,
                              ReservationType::write_exclusive,
                              ReservationType::exclusive_access,
                              ReservationType::write_exclusive_registrants_only,
                              ReservationType::exclusive_access_registrants_only,
                              ReservationType::write_exclusive_all_registrants,
                              ReservationType::exclusive_access_all_registrants};
  if (number >= kTypes.size()) return fail(EPROTO, "a reservation of the unknown NVMe type {} is reported", number);
  return kTypes[number];
}
}  // namespace

const char* describe(Action action) {
  switch (action) {
    case Action::register_key:
      return "REGISTER";
    case Action::reserve:
      return "RESERVE";
    case Action::release:
      return "RELEASE";
    case Action::clear:
      return "CLEAR";
    case Action::preempt:
      return "PREEMPT";
    case Action::preempt_and_abort:
      return "PREEMPT AND ABORT";
    case Action::register_and_ignore:
      return "REGISTER AND IGNORE EXISTING KEY";
  }
  return "";
}

scsi::Command reserve_out(Action action) {
  scsi::Command made{.cdb = {},
                     .cdb_length = 10,
                     .direction = scsi::Command::Direction::to_device,
                     .length_bytes = kParameterBytes,
                     .name = describe(action)};
  made.cdb[0] = 0x5F;
  made.cdb[1] = static_cast<std::uint8_t>(action);
  if (takes_type(action)) made.cdb[2] = kTypeFive;
  scsi::put_big(std::as_writable_bytes(std::span(made.cdb)), 5, 4, kParameterBytes);
  return made;
}

std::array<std::byte, kParameterBytes> encode_parameters(ReservationKey key, ReservationKey action_key, bool persist) {
  std::array<std::byte, kParameterBytes> list{};
  scsi::put_big(list, 0, 8, key.value);
  scsi::put_big(list, 8, 8, action_key.value);
  if (persist) list[20] = std::byte{0x01};
  return list;
}

scsi::Command reserve_in(Query query, std::uint16_t length_bytes) {
  constexpr std::array kNames{"READ KEYS", "READ RESERVATION", "REPORT CAPABILITIES"};
  auto action = static_cast<std::uint8_t>(query);
  scsi::Command made{.cdb = {},
                     .cdb_length = 10,
                     .direction = scsi::Command::Direction::from_device,
                     .length_bytes = length_bytes,
                     .name = kNames[action]};
  made.cdb[0] = 0x5E;
  made.cdb[1] = action;
  scsi::put_big(std::as_writable_bytes(std::span(made.cdb)), 7, 2, length_bytes);
  return made;
}

Result<KeyList> decode_keys(Bytes data) {
  if (data.size() < key_list_bytes(0)) return fail(EPROTO, "READ KEYS gave {} bytes only", data.size());
  KeyList list;
  list.registered.generation = static_cast<std::uint32_t>(scsi::get_big(data, 0, 4));
  std::uint64_t additional = scsi::get_big(data, 4, 4);
  if (additional % 8 != 0) return fail(EPROTO, "READ KEYS tells of {} bytes of keys", additional);
  list.needed_bytes = key_list_bytes(0) + additional;
  std::size_t given = std::min<std::uint64_t>(list.needed_bytes, data.size());
  for (std::size_t at = key_list_bytes(0); at + 8 <= given; at += 8)
    list.registered.keys.emplace_back(scsi::get_big(data, at, 8));
  return list;
}

Result<ReservationState> decode_reservation(Bytes data) {
  if (data.size() < 8) return fail(EPROTO, "READ RESERVATION gave {} bytes only", data.size());
  ReservationState state;
  state.generation = static_cast<std::uint32_t>(scsi::get_big(data, 0, 4));
  std::uint64_t additional = scsi::get_big(data, 4, 4);
  if (additional == 0) return state;
  if (additional < 16 || data.size() < kReservationBytes)
    return fail(EPROTO, "READ RESERVATION gave {} bytes and tells of {} more", data.size(), additional);
  state.holder = ReservationKey(scsi::get_big(data, 8, 8));
  std::uint64_t scope = scsi::get_big(data, 21, 1) >> 4;
  if (scope != 0) return fail(EPROTO, "a reservation of the unknown scope {} is reported", scope);
  TRY(state.type, type_of(scsi::get_big(data, 21, 1) & 0x0F));
  return state;
}

Result<ReservationCapabilities> decode_capabilities(Bytes data) {
  if (data.size() < kCapabilitiesBytes || scsi::get_big(data, 0, 2) < kCapabilitiesBytes)
    return fail(EPROTO, "REPORT CAPABILITIES gave {} bytes only", data.size());
  ReservationCapabilities capabilities;
  capabilities.persist_through_power_loss = (scsi::get_big(data, 2, 1) & 0x01) != 0;
  std::uint64_t flags = scsi::get_big(data, 3, 1);
  capabilities.persisting = (flags & 0x01) != 0;
  bool types_listed = (flags & 0x80) != 0;
  bool type_five = (scsi::get_big(data, 4, 1) & 0x20) != 0;
  capabilities.write_exclusive_registrants_only = !types_listed || type_five;
  return capabilities;
}

Result<NvmeReport> decode_nvme_report(Bytes data, bool extended) {
  constexpr std::size_t kHeaderBytes = 24;
  const std::size_t first = extended ? 64 : kHeaderBytes;
  const std::size_t entry_bytes = extended ? 64 : 24;
  if (data.size() < first) return fail(EPROTO, "the reservation report has {} bytes only", data.size());
  NvmeReport report;
  std::uint64_t generation = get_little(data, 0, 4);
  report.registered.generation = report.state.generation = static_cast<std::uint32_t>(generation);
  TRY(report.state.type, nvme_type_of(get_little(data, 4, 1)));
  std::uint64_t controllers = get_little(data, 5, 2);
  report.persisting = get_little(data, 9, 1) != 0;
  report.needed_bytes = first + controllers * entry_bytes;
  for (std::size_t i = 0; i < controllers && first + (i + 1) * entry_bytes <= data.size(); ++i) {
    std::size_t at = first + i * entry_bytes;
    bool holds = (get_little(data, at + 2, 1) & 0x01) != 0;
    ReservationKey key(get_little(data, at + (extended ? 8 : 16), 8));
    report.registered.keys.push_back(key);
    bool single_holder = report.state.type != ReservationType::write_exclusive_all_registrants &&
                         report.state.type != ReservationType::exclusive_access_all_registrants;
    if (holds && single_holder) report.state.holder = key;
  }
  return report;
}

}  // namespace corral::reservation_format
