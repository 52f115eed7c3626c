/// The bytes of persistent reservations: SPC-4 6.15 and 6.16 for SCSI, NVMe 1.4 6.13 (Reservation Report) for NVMe.
/// What a disk answers is untrusted.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "disk/reservation.h"
#include "disk/scsi.h"

namespace corral::reservation_format {

/// Service actions of PERSISTENT RESERVE OUT (SPC-4 table 222).
enum class Action : std::uint8_t {
  register_key = 0,
  reserve = 1,
  release = 2,
  clear = 3,
  preempt = 4,
  preempt_and_abort = 5,
  register_and_ignore = 6,
};
const char* describe(Action action);

inline constexpr std::size_t kParameterBytes = 24;
/// PERSISTENT RESERVE OUT with type 5 where the action takes a type, and its parameter list.
scsi::Command reserve_out(Action action);
std::array<std::byte, kParameterBytes> encode_parameters(ReservationKey key, ReservationKey action_key, bool persist);

/// Service actions of PERSISTENT RESERVE IN (SPC-4 table 211).
enum class Query : std::uint8_t { read_keys = 0, read_reservation = 1, report_capabilities = 2 };
scsi::Command reserve_in(Query query, std::uint16_t length_bytes);

/// What READ KEYS gave, and how much room all of it would take; `keys` is complete where that fits what was given.
struct KeyList {
  RegisteredKeys registered;
  std::uint64_t needed_bytes = 0;
};
/// Bytes of READ KEYS for so many keys.
constexpr std::size_t key_list_bytes(std::size_t keys) {
  return 8 + 8 * keys;
}
/// PERSISTENT RESERVE IN's allocation length has 16 bits.
inline constexpr std::size_t kMostListBytes = 0xFFF8;
Result<KeyList> decode_keys(std::span<const std::byte> data);

inline constexpr std::uint16_t kReservationBytes = 24;
Result<ReservationState> decode_reservation(std::span<const std::byte> data);

inline constexpr std::uint16_t kCapabilitiesBytes = 8;
Result<ReservationCapabilities> decode_capabilities(std::span<const std::byte> data);

/// NVMe Reservation Report, in the standard (64-bit host identifier) or extended (128-bit) data structure. All integers
/// are little-endian.
struct NvmeReport {
  ReservationState state;
  RegisteredKeys registered;
  std::uint64_t needed_bytes = 0;
  bool persisting = false;  ///< PTPLS
};
Result<NvmeReport> decode_nvme_report(std::span<const std::byte> data, bool extended);

}  // namespace corral::reservation_format
