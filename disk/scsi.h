/// SCSI commands and responses as bytes: what to send, and what may be believed of what came back. No I/O; used over
/// iSCSI and over SG_IO alike.
///
/// Sources: SPC-4 (INQUIRY 6.4, MODE SENSE(10) 6.12, PERSISTENT RESERVE IN 6.15 and OUT 6.16, sense data 4.5, VPD pages
/// 7.8), SBC-3 (READ(16) 5.11, WRITE(16) 5.32, SYNCHRONIZE CACHE(16) 5.23, UNMAP 5.28, WRITE SAME(16) 5.47, READ
/// CAPACITY(16) 5.16, Block Limits 6.6.3, Logical Block Provisioning 6.6.4), SAM-5 (status codes 5.3.1). All integers
/// are big-endian. Everything decoded here is untrusted: what is too short or contradicts itself gives an error.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/task.h"

namespace corral::scsi {

/// One command descriptor block and the data that goes with it.
struct Command {
  enum class Direction { none, from_device, to_device };
  std::array<std::uint8_t, 16> cdb{};
  std::uint8_t cdb_length = 0;
  Direction direction = Direction::none;
  std::uint32_t length_bytes = 0;
  /// For messages: "READ(16)".
  const char* name = "";
};

/// Sense data: what a command that ended with CHECK CONDITION had to say.
struct Sense {
  std::uint8_t key = 0;
  std::uint8_t asc = 0;
  std::uint8_t ascq = 0;
  auto operator<=>(const Sense&) const = default;
};
inline constexpr std::uint8_t kNotReady = 0x02;
inline constexpr std::uint8_t kIllegalRequest = 0x05;
inline constexpr std::uint8_t kUnitAttention = 0x06;
inline constexpr std::uint8_t kDataProtect = 0x07;
inline constexpr std::uint8_t kAbortedCommand = 0x0B;

/// Fixed or descriptor format (SPC-4 4.5.2, 4.5.3); all zero where it is neither.
Sense decode_sense(std::span<const std::byte> data);
/// A unit attention that tells of changed registrations or reservations (2A/03 to 2A/05).
bool is_reservation_attention(const Sense& sense);
/// A unit attention after which the write cache may have been lost: power on, hard or bus reset, device internal reset
/// (29/00 to 29/04); not the mere loss of the I_T nexus (29/07).
bool is_power_on_attention(const Sense& sense);

enum class Status : std::uint8_t {
  good = 0x00,
  check_condition = 0x02,
  busy = 0x08,
  reservation_conflict = 0x18,
  task_set_full = 0x28,
  task_aborted = 0x40,
};

/// How a command ended, as the logical unit says.
struct Outcome {
  Status status = Status::good;
  Sense sense{};
  std::uint32_t transferred_bytes = 0;
};
/// "RESERVATION CONFLICT", "CHECK CONDITION, sense 05/25/00 (logical unit not supported)".
std::string describe(const Outcome& outcome);
/// The errno for an outcome that is not good: EBADE for a reservation conflict (as the kernel's block layer has it),
/// EOPNOTSUPP for a command or a field that the logical unit does not know, EROFS for a protected medium, ENXIO for a
/// logical unit that is not there, EBUSY, else EIO.
int error_code(const Outcome& outcome);

/// A way to one logical unit.
class Transport {
 public:
  virtual ~Transport() = default;
  virtual const std::string& name() const = 0;
  /// Sends once and never again. `data` holds what is sent, or takes what comes, and must live until the task ends.
  /// An error means that the outcome is not known: the command may have been executed.
  virtual Task<Result<Outcome>> execute(Command command, std::span<std::byte> data) = 0;
  /// LOGICAL UNIT RESET (SAM-5 7.7): every command of every I_T nexus is aborted, reservations stay. EOPNOTSUPP where
  /// the transport has none.
  virtual Task<Result<>> reset_logical_unit() = 0;
};

Command test_unit_ready();
Command inquiry(std::uint16_t length_bytes);
Command inquiry_page(std::uint8_t page, std::uint16_t length_bytes);
Command read_capacity();
Command mode_sense_caching();
Command read(std::uint64_t block, std::uint32_t blocks, std::uint32_t block_bytes);
Command write(std::uint64_t block, std::uint32_t blocks, std::uint32_t block_bytes, bool force_unit_access);
/// The whole medium, and the answer only when it is done.
Command synchronize_cache();
/// One descriptor: see encode_unmap().
Command unmap();
std::vector<std::byte> encode_unmap(std::uint64_t block, std::uint32_t blocks);
/// WRITE SAME(16) of one block of zeros with the UNMAP bit.
Command write_same_unmap(std::uint64_t block, std::uint32_t blocks, std::uint32_t block_bytes);

/// REPORT SUPPORTED OPERATION CODES (SPC-4 6.29) for one operation code and service action.
inline constexpr std::uint16_t kSupportBytes = 4;
Command report_support(std::uint8_t operation, std::uint16_t service_action);
/// Whether the logical unit knows that command; empty where it does not say.
std::optional<bool> decode_support(std::span<const std::byte> data);

/// Standard INQUIRY data.
struct Inquiry {
  std::uint8_t qualifier = 0;    ///< 0: connected; 3: there is no such logical unit
  std::uint8_t device_type = 0;  ///< 0: a disk
  std::string vendor;            ///< printable, without padding
  std::string product;
};
inline constexpr std::uint16_t kInquiryBytes = 96;
Result<Inquiry> decode_inquiry(std::span<const std::byte> data);

struct Capacity {
  std::uint64_t blocks = 0;
  std::uint32_t block_bytes = 0;           ///< a power of two from 512 to 65536
  std::uint32_t physical_block_bytes = 0;  ///< the same or larger
  std::uint32_t alignment_offset_bytes = 0;
  bool thin = false;  ///< blocks can be given back (LBPME)
};
inline constexpr std::uint32_t kCapacityBytes = 32;
Result<Capacity> decode_capacity(std::span<const std::byte> data);

/// VPD page B0h; 0 where the logical unit does not say.
struct BlockLimits {
  std::uint32_t most_transfer_blocks = 0;
  std::uint32_t optimal_transfer_blocks = 0;
  std::uint32_t optimal_granularity_blocks = 0;
  std::uint32_t most_unmap_blocks = 0;
  std::uint32_t unmap_granularity_blocks = 0;
  std::uint64_t most_write_same_blocks = 0;
};
inline constexpr std::uint8_t kBlockLimitsPage = 0xB0;
Result<BlockLimits> decode_block_limits(std::span<const std::byte> data);

/// VPD page B2h.
struct Provisioning {
  bool unmap = false;
  bool write_same_unmap = false;
};
inline constexpr std::uint8_t kProvisioningPage = 0xB2;
Result<Provisioning> decode_provisioning(std::span<const std::byte> data);

inline constexpr std::uint8_t kIdentificationPage = 0x83;

/// MODE SENSE(10) with the caching page (08h).
struct Caching {
  bool write_cache = true;         ///< WCE
  bool force_unit_access = false;  ///< DPOFUA: FUA is understood
  bool write_protected = false;    ///< WP
};
inline constexpr std::uint16_t kModeSenseBytes = 64;
Result<Caching> decode_caching(std::span<const std::byte> data);

/// Big-endian integers at an offset; the caller has checked the length.
std::uint64_t get_big(std::span<const std::byte> data, std::size_t offset, std::size_t bytes);
void put_big(std::span<std::byte> data, std::size_t offset, std::size_t bytes, std::uint64_t value);

}  // namespace corral::scsi
