#include "disk/scsi.h"

#include <algorithm>
#include <bit>

#include "base/check.h"

namespace corral::scsi {

namespace {
using Bytes = std::span<const std::byte>;

std::uint8_t byte_at(Bytes data, std::size_t offset) {
  return std::to_integer<std::uint8_t>(data[offset]);
}

/// The page behind a VPD header, as long as it says and as was received. The page code must be the one asked for.
Result<Bytes> page_of(Bytes data, std::uint8_t page, std::size_t least_bytes) {
  constexpr std::size_t kHeaderBytes = 4;
  if (data.size() < kHeaderBytes || byte_at(data, 1) != page) return fail(EPROTO, "no VPD page {:02X}h came", page);
  std::size_t length = kHeaderBytes + get_big(data, 2, 2);
  Bytes whole = data.first(std::min(length, data.size()));
  if (whole.size() < least_bytes) return fail(EPROTO, "VPD page {:02X}h has {} bytes only", page, whole.size());
  return whole;
}

std::string text_at(Bytes data, std::size_t offset, std::size_t bytes) {
  std::string text;
  for (std::size_t i = 0; i < bytes; ++i) {
    std::uint8_t character = byte_at(data, offset + i);
    text.push_back(character >= 0x20 && character < 0x7F ? static_cast<char>(character) : '?');
  }
  text.erase(text.find_last_not_of(' ') + 1);
  return text;
}

struct SenseText {
  std::uint8_t asc;
  std::uint8_t ascq;
  const char* text;
};
constexpr SenseText kSenseTexts[] = {
    {0x04, 0x01, "becoming ready"},
    {0x20, 0x00, "unknown command"},
    {0x21, 0x00, "beyond the end"},
    {0x24, 0x00, "unknown field in the command"},
    {0x25, 0x00, "no such logical unit"},
    {0x26, 0x00, "unknown field in the parameters"},
    {0x26, 0x04, "the reservation is not as the command says"},
    {0x27, 0x00, "write protected"},
    {0x29, 0x00, "power on or reset"},
    {0x29, 0x01, "power on"},
    {0x29, 0x07, "I_T nexus loss"},
    {0x2A, 0x03, "reservations preempted"},
    {0x2A, 0x04, "reservations released"},
    {0x2A, 0x05, "registrations preempted"},
    {0x55, 0x04, "no room for registrations"},
};
}  // namespace

std::uint64_t get_big(Bytes data, std::size_t offset, std::size_t bytes) {
  CHECK_INVARIANT(bytes <= 8 && offset + bytes <= data.size());
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < bytes; ++i)
    value = value << 8 | byte_at(data, offset + i);
  return value;
}

void put_big(std::span<std::byte> data, std::size_t offset, std::size_t bytes, std::uint64_t value) {
  CHECK_INVARIANT(bytes <= 8 && offset + bytes <= data.size());
  for (std::size_t i = 0; i < bytes; ++i)
    data[offset + i] = static_cast<std::byte>(value >> (8 * (bytes - 1 - i)));
}

Sense decode_sense(Bytes data) {
  if (data.empty()) return {};
  std::uint8_t format = byte_at(data, 0) & 0x7F;
  if ((format == 0x70 || format == 0x71) && data.size() >= 14)
    return {static_cast<std::uint8_t>(byte_at(data, 2) & 0x0F), byte_at(data, 12), byte_at(data, 13)};
  if ((format == 0x72 || format == 0x73) && data.size() >= 4)
    return {static_cast<std::uint8_t>(byte_at(data, 1) & 0x0F), byte_at(data, 2), byte_at(data, 3)};
  return {};
}

bool is_reservation_attention(const Sense& sense) {
  return sense.key == kUnitAttention && sense.asc == 0x2A && sense.ascq >= 0x03 && sense.ascq <= 0x05;
}

bool is_power_on_attention(const Sense& sense) {
  return sense.key == kUnitAttention && sense.asc == 0x29 && sense.ascq <= 0x04;
}

std::string describe(const Outcome& outcome) {
  switch (outcome.status) {
    case Status::good:
      return "GOOD";
    case Status::busy:
      return "BUSY";
    case Status::reservation_conflict:
      return "RESERVATION CONFLICT";
    case Status::task_set_full:
      return "TASK SET FULL";
    case Status::task_aborted:
      return "TASK ABORTED";
    case Status::check_condition:
      break;
    default:
      return fmt::format("status {:02X}h", static_cast<unsigned>(outcome.status));
  }
  const Sense& sense = outcome.sense;
  const char* text = "";
  for (const SenseText& known : kSenseTexts)
    if (known.asc == sense.asc && known.ascq == sense.ascq) text = known.text;
  return fmt::format("CHECK CONDITION, sense {:02X}/{:02X}/{:02X}{}{}{}", sense.key, sense.asc, sense.ascq,
                     *text == 0 ? "" : " (", text, *text == 0 ? "" : ")");
}

int error_code(const Outcome& outcome) {
  switch (outcome.status) {
    case Status::reservation_conflict:
      return EBADE;
    case Status::busy:
    case Status::task_set_full:
      return EBUSY;
    default:
      break;
  }
  const Sense& sense = outcome.sense;
  if (sense.key == kDataProtect) return EROFS;
  if (sense.key != kIllegalRequest) return EIO;
  if (sense.asc == 0x25) return ENXIO;
  // The asc 26/04 means that the command was understood, but not the reservation that it names.
  bool unknown = sense.asc == 0x20 || sense.asc == 0x24 || (sense.asc == 0x26 && sense.ascq != 0x04);
  return unknown ? EOPNOTSUPP : EIO;
}

namespace {
Command command(const char* name, std::uint8_t operation, std::uint8_t length, Command::Direction direction,
                std::uint32_t data_bytes) {
  Command made{.cdb = {}, .cdb_length = length, .direction = direction, .length_bytes = data_bytes, .name = name};
  made.cdb[0] = operation;
  return made;
}
std::span<std::byte> bytes_of(Command& command) {
  return std::as_writable_bytes(std::span(command.cdb));
}
using Direction = Command::Direction;

Command block_command(const char* name, std::uint8_t operation, Direction direction, std::uint64_t block,
                      std::uint32_t blocks, std::uint32_t data_bytes) {
  Command made = command(name, operation, 16, direction, data_bytes);
  put_big(bytes_of(made), 2, 8, block);
  put_big(bytes_of(made), 10, 4, blocks);
  return made;
}
}  // namespace

Command test_unit_ready() {
  return command("TEST UNIT READY", 0x00, 6, Direction::none, 0);
}

Command inquiry(std::uint16_t length_bytes) {
  Command made = command("INQUIRY", 0x12, 6, Direction::from_device, length_bytes);
  put_big(bytes_of(made), 3, 2, length_bytes);
  return made;
}

Command inquiry_page(std::uint8_t page, std::uint16_t length_bytes) {
  Command made = inquiry(length_bytes);
  made.cdb[1] = 0x01;
  made.cdb[2] = page;
  return made;
}

Command read_capacity() {
  Command made = command("READ CAPACITY(16)", 0x9E, 16, Direction::from_device, kCapacityBytes);
  made.cdb[1] = 0x10;
  put_big(bytes_of(made), 10, 4, kCapacityBytes);
  return made;
}

Command mode_sense_caching() {
  Command made = command("MODE SENSE(10)", 0x5A, 10, Direction::from_device, kModeSenseBytes);
  made.cdb[1] = 0x08;  // no block descriptors
  made.cdb[2] = 0x08;
  put_big(bytes_of(made), 7, 2, kModeSenseBytes);
  return made;
}

Command read(std::uint64_t block, std::uint32_t blocks, std::uint32_t block_bytes) {
  return block_command("READ(16)", 0x88, Direction::from_device, block, blocks, blocks * block_bytes);
}

Command write(std::uint64_t block, std::uint32_t blocks, std::uint32_t block_bytes, bool force_unit_access) {
  Command made = block_command("WRITE(16)", 0x8A, Direction::to_device, block, blocks, blocks * block_bytes);
  if (force_unit_access) made.cdb[1] = 0x08;
  return made;
}

Command synchronize_cache() {
  return block_command("SYNCHRONIZE CACHE(16)", 0x91, Direction::none, 0, 0, 0);
}

namespace {
constexpr std::uint32_t kUnmapBytes = 8 + 16;
}

Command unmap() {
  Command made = command("UNMAP", 0x42, 10, Direction::to_device, kUnmapBytes);
  put_big(bytes_of(made), 7, 2, kUnmapBytes);
  return made;
}

std::vector<std::byte> encode_unmap(std::uint64_t block, std::uint32_t blocks) {
  std::vector<std::byte> list(kUnmapBytes);
  put_big(list, 0, 2, kUnmapBytes - 2);
  put_big(list, 2, 2, 16);
  put_big(list, 8, 8, block);
  put_big(list, 16, 4, blocks);
  return list;
}

Command write_same_unmap(std::uint64_t block, std::uint32_t blocks, std::uint32_t block_bytes) {
  Command made = block_command("WRITE SAME(16)", 0x93, Direction::to_device, block, blocks, block_bytes);
  made.cdb[1] = 0x08;
  return made;
}

Command report_support(std::uint8_t operation, std::uint16_t service_action) {
  Command made = command("REPORT SUPPORTED OPERATION CODES", 0xA3, 12, Direction::from_device, kSupportBytes);
  made.cdb[1] = 0x0C;
  made.cdb[2] = 0x02;
  made.cdb[3] = operation;
  put_big(bytes_of(made), 4, 2, service_action);
  put_big(bytes_of(made), 6, 4, kSupportBytes);
  return made;
}

std::optional<bool> decode_support(Bytes data) {
  if (data.size() < kSupportBytes) return std::nullopt;
  switch (byte_at(data, 1) & 0x07) {
    case 0x01:
      return false;
    case 0x03:
    case 0x05:
      return true;
    default:
      return std::nullopt;
  }
}

Result<Inquiry> decode_inquiry(Bytes data) {
  if (data.size() < 36) return fail(EPROTO, "INQUIRY gave {} bytes only", data.size());
  return Inquiry{.qualifier = static_cast<std::uint8_t>(byte_at(data, 0) >> 5),
                 .device_type = static_cast<std::uint8_t>(byte_at(data, 0) & 0x1F),
                 .vendor = text_at(data, 8, 8),
                 .product = text_at(data, 16, 16)};
}

Result<Capacity> decode_capacity(Bytes data) {
  if (data.size() < 16) return fail(EPROTO, "READ CAPACITY(16) gave {} bytes only", data.size());
  Capacity capacity;
  std::uint64_t last = get_big(data, 0, 8);
  capacity.block_bytes = static_cast<std::uint32_t>(get_big(data, 8, 4));
  if (!std::has_single_bit(capacity.block_bytes) || capacity.block_bytes < 512 || capacity.block_bytes > 65536)
    return fail(EPROTO, "logical blocks of {} bytes are not supported", capacity.block_bytes);
  // Offsets in bytes must fit a signed 64-bit number everywhere.
  if (last >= (std::uint64_t{1} << 62) / capacity.block_bytes)
    return fail(EPROTO, "a last block of {} cannot be true", last);
  capacity.blocks = last + 1;
  unsigned exponent = byte_at(data, 13) & 0x0F;
  constexpr std::uint64_t kMostPhysicalBytes = 1 << 30;
  capacity.physical_block_bytes =
      static_cast<std::uint32_t>(std::min(std::uint64_t{capacity.block_bytes} << exponent, kMostPhysicalBytes));
  capacity.alignment_offset_bytes = static_cast<std::uint32_t>((get_big(data, 14, 2) & 0x3FFF) * capacity.block_bytes %
                                                               capacity.physical_block_bytes);
  capacity.thin = (byte_at(data, 14) & 0x80) != 0;
  return capacity;
}

Result<BlockLimits> decode_block_limits(Bytes data) {
  TRY(Bytes page, page_of(data, kBlockLimitsPage, 16));
  BlockLimits limits;
  limits.optimal_granularity_blocks = static_cast<std::uint32_t>(get_big(page, 6, 2));
  limits.most_transfer_blocks = static_cast<std::uint32_t>(get_big(page, 8, 4));
  limits.optimal_transfer_blocks = static_cast<std::uint32_t>(get_big(page, 12, 4));
  if (page.size() >= 36) {
    limits.most_unmap_blocks = static_cast<std::uint32_t>(get_big(page, 20, 4));
    limits.unmap_granularity_blocks = static_cast<std::uint32_t>(get_big(page, 28, 4));
  }
  if (page.size() >= 44) limits.most_write_same_blocks = get_big(page, 36, 8);
  return limits;
}

Result<Provisioning> decode_provisioning(Bytes data) {
  TRY(Bytes page, page_of(data, kProvisioningPage, 6));
  return Provisioning{.unmap = (byte_at(page, 5) & 0x80) != 0, .write_same_unmap = (byte_at(page, 5) & 0x40) != 0};
}

Result<Caching> decode_caching(Bytes data) {
  constexpr std::size_t kHeaderBytes = 8;
  if (data.size() < kHeaderBytes) return fail(EPROTO, "MODE SENSE(10) gave {} bytes only", data.size());
  Caching caching;
  caching.write_protected = (byte_at(data, 3) & 0x80) != 0;
  caching.force_unit_access = (byte_at(data, 3) & 0x10) != 0;
  std::size_t length = std::min<std::size_t>(data.size(), get_big(data, 0, 2) + 2);
  std::size_t page = kHeaderBytes + get_big(data, 6, 2);
  // Where the page is missing the cache is assumed.
  if (page + 3 <= length && (byte_at(data, page) & 0x3F) == 0x08)
    caching.write_cache = (byte_at(data, page + 2) & 0x04) != 0;
  return caching;
}

}  // namespace corral::scsi
