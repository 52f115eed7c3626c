#include "cluster/area_format.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "ondisk/checksum.h"
#include "ondisk/endian.h"
#include "ondisk/layout.h"

namespace corral::cluster {

using ondisk::be16;
using ondisk::be32;
using ondisk::be64;
using ondisk::view;

namespace {

constexpr std::uint32_t kRecordMagic = 0x434F5241;  // "CORA"

enum class RecordType : std::uint32_t { header = 1, view = 2, slot = 3 };

struct RecordHead {
  be32 magic;
  be32 type;
  be32 version;
  be32 crc;  ///< CRC-32C of the checked bytes with this field 0
  be64 generation;
  Uuid cluster;
};
static_assert(sizeof(RecordHead) == 40 && offsetof(RecordHead, crc) == 12);

struct AcknowledgementBytes {
  be64 incarnation;
  be64 heartbeat;
};
struct HeaderBytes {
  RecordHead head;
  Secret secret;
  be32 slots;
  be32 failure_timeout_ms;
  be32 quorum;
  be16 port;
  std::uint8_t fence;
  std::uint8_t agent_name_bytes;
  be16 agent_options_bytes;
  be16 expelled_bytes;
  be32 reserved;
  std::array<char, kMostAgentNameBytes> agent_name;
  std::array<char, kMostAgentOptionsBytes> agent_options;
  std::array<AcknowledgementBytes, kSlots> acknowledged;
  std::array<char, kMostExpelledBytes> expelled;
};
static_assert(sizeof(HeaderBytes) == 3072 && sizeof(HeaderBytes) <= kRecordBytes);
static_assert(offsetof(HeaderBytes, slots) == 72 && offsetof(HeaderBytes, agent_name) == 96 &&
              offsetof(HeaderBytes, acknowledged) == 1024 && offsetof(HeaderBytes, expelled) == 2048);

struct MemberBytes {
  be32 slot;
  be32 reserved;
  be64 incarnation;
};
struct ViewBytes {
  RecordHead head;
  be64 number;
  be32 leader;
  be32 expected_nodes;
  be32 member_count;
  be32 reserved;
  std::array<MemberBytes, kSlots> members;
};
static_assert(sizeof(ViewBytes) == 64 + 16 * kSlots && sizeof(ViewBytes) <= kRecordBytes);

struct SlotBytes {
  RecordHead head;
  be32 slot;
  be32 state;
  be64 incarnation;
  be64 key;
  be64 heartbeat;
  be64 view_number;
  be32 protocol_version;
  be32 cycle_ms;
  be16 port;
  std::uint8_t health;
  std::uint8_t address_count;
  std::uint8_t name_bytes;
  std::uint8_t fenced;
  std::array<std::uint8_t, 2> reserved;
  std::array<Address, kMostAddresses> addresses;
  std::array<char, kNameMostBytes> name;
  std::array<std::uint8_t, kSlots / 8> hears;  ///< bit n % 8 of byte n / 8
};
static_assert(sizeof(SlotBytes) == 232 && sizeof(SlotBytes) <= kSlotRecordBytes);

std::uint32_t crc_of(std::span<const std::byte> bytes) {
  std::vector<std::byte> copy(bytes.begin(), bytes.end());
  view<RecordHead>(copy).crc = 0u;
  return ondisk::crc32c(copy);
}

void begin_record(std::span<std::byte> record, RecordType type, std::uint64_t generation, const Uuid& cluster) {
  CHECK_INVARIANT(record.size() == kRecordBytes);
  std::ranges::fill(record, std::byte{0});
  auto& head = view<RecordHead>(record);
  head.magic = kRecordMagic;
  head.type = static_cast<std::uint32_t>(type);
  head.version = kFormatVersion;
  head.generation = generation;
  head.cluster = cluster;
}

void seal(std::span<std::byte> checked) {
  view<RecordHead>(checked).crc = crc_of(checked);
}

Result<> check_record(std::span<const std::byte> checked, RecordType type, std::string_view what) {
  const auto& head = view<RecordHead>(checked);
  if (head.magic != kRecordMagic)
    return fail_corrupt("cluster area: {}: magic number {:#x}, expected {:#x}", what, head.magic.value(), kRecordMagic);
  if (head.crc != crc_of(checked))
    return fail_corrupt("cluster area: {}: checksum {:#x}, expected {:#x}", what, head.crc.value(), crc_of(checked));
  if (head.version != kFormatVersion)
    return fail(EPROTONOSUPPORT, "cluster area: {}: format version {}, this program knows {}: use a newer one", what,
                head.version.value(), kFormatVersion);
  if (head.type != static_cast<std::uint32_t>(type))
    return fail_corrupt("cluster area: {}: record type {}, expected {}", what, head.type.value(),
                        static_cast<std::uint32_t>(type));
  return {};
}

/// Printable, so that it can be shown and given to a program as it is.
bool is_printable(std::string_view text) {
  return std::ranges::all_of(text, [](char c) { return c >= ' ' && c <= '~'; });
}

bool is_of_agent_name(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '.';
}

/// The names as they stand in the record, each ended by a 0.
std::string packed(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names)
    text += name + '\0';
  return text;
}

Result<std::vector<std::string>> unpacked(std::string_view text) {
  std::vector<std::string> names;
  while (!text.empty()) {
    const std::size_t end = text.find('\0');
    if (end == std::string_view::npos || !is_valid_node_name(text.substr(0, end)))
      return fail_corrupt("cluster area: header: the names of expelled nodes make no sense");
    names.emplace_back(text.substr(0, end));
    text.remove_prefix(end + 1);
  }
  return names;
}

}  // namespace

bool ViewRecord::operator==(const ViewRecord& other) const {
  return generation == other.generation && cluster == other.cluster && view.number == other.view.number &&
         view.members == other.view.members && leader == other.leader && expected_nodes == other.expected_nodes;
}

bool is_valid_node_name(std::string_view name) {
  return !name.empty() && name.size() <= kNameMostBytes &&
         std::ranges::all_of(name, [](char c) { return c > ' ' && c <= '~'; });
}

Result<> check_settings(const Settings& settings) {
  if (settings.failure_timeout_ms < kLeastFailureTimeoutMs || settings.failure_timeout_ms > kMostFailureTimeoutMs)
    return fail(EINVAL, "failure-timeout of {} ms: must be {} to {} ms", settings.failure_timeout_ms,
                kLeastFailureTimeoutMs, kMostFailureTimeoutMs);
  if (settings.quorum != QuorumPolicy::last_man_standing && settings.quorum != QuorumPolicy::majority)
    return fail(EINVAL, "quorum policy {} is not known", static_cast<std::uint32_t>(settings.quorum));
  if (settings.port == 0) return fail(EINVAL, "port 0: must be 1 to 65535");
  if (settings.fence > FencePolicy::manual)
    return fail(EINVAL, "way of fencing {} is not known", static_cast<unsigned>(settings.fence));
  if ((settings.fence == FencePolicy::agent) != !settings.fence_agent.empty() ||
      (!settings.fence_agent.empty() && !is_valid_agent_name(settings.fence_agent)))
    return fail(EINVAL, "'{}' is no name of a fence agent", settings.fence_agent);
  if (settings.fence_agent_options.size() > kMostAgentOptionsBytes || !is_printable(settings.fence_agent_options))
    return fail(EINVAL, "fence-agent-options: must be at most {} printable ASCII characters", kMostAgentOptionsBytes);
  return {};
}

bool is_valid_agent_name(std::string_view name) {
  return name.starts_with("fence_") && name.size() <= kMostAgentNameBytes &&
         std::ranges::all_of(name, is_of_agent_name);
}

Result<> check_expelled(const std::vector<std::string>& names) {
  if (packed(names).size() > kMostExpelledBytes)
    return fail(ENOSPC, "there is no room to remember more expelled nodes: admit some of them again");
  return {};
}

bool is_acknowledged(const Header& header, const Slot& slot) {
  const FenceAcknowledgement& said = header.acknowledged[slot.id.value];
  return slot.incarnation && said.incarnation == slot.incarnation && said.heartbeat == slot.heartbeat;
}

void encode_header(const Header& header, std::span<std::byte> record) {
  const Settings& settings = header.settings;
  const std::string expelled = packed(header.expelled);
  CHECK_INVARIANT(check_settings(settings).has_value() && expelled.size() <= kMostExpelledBytes);
  begin_record(record, RecordType::header, header.generation, header.cluster);
  auto& bytes = view<HeaderBytes>(record);
  bytes.secret = header.secret;
  bytes.slots = kSlots;
  bytes.failure_timeout_ms = settings.failure_timeout_ms;
  bytes.quorum = static_cast<std::uint32_t>(settings.quorum);
  bytes.port = settings.port;
  bytes.fence = static_cast<std::uint8_t>(settings.fence);
  bytes.agent_name_bytes = static_cast<std::uint8_t>(settings.fence_agent.size());
  bytes.agent_options_bytes = static_cast<std::uint16_t>(settings.fence_agent_options.size());
  bytes.expelled_bytes = static_cast<std::uint16_t>(expelled.size());
  std::ranges::copy(settings.fence_agent, bytes.agent_name.begin());
  std::ranges::copy(settings.fence_agent_options, bytes.agent_options.begin());
  std::ranges::copy(expelled, bytes.expelled.begin());
  for (std::size_t i = 0; i < kSlots; ++i) {
    bytes.acknowledged[i].incarnation = header.acknowledged[i].incarnation.value;
    bytes.acknowledged[i].heartbeat = header.acknowledged[i].heartbeat;
  }
  seal(record);
}

Result<Header> decode_header(std::span<const std::byte> record) {
  CHECK_INVARIANT(record.size() == kRecordBytes);
  TRY_VOID(check_record(record, RecordType::header, "header"));
  const auto& bytes = view<HeaderBytes>(record);
  if (bytes.slots != kSlots)
    return fail_corrupt("cluster area: header: {} slots, expected {}", bytes.slots.value(), kSlots);
  Header header{.generation = bytes.head.generation,
                .cluster = bytes.head.cluster,
                .secret = bytes.secret,
                .settings = {.failure_timeout_ms = bytes.failure_timeout_ms,
                             .quorum = static_cast<QuorumPolicy>(bytes.quorum.value()),
                             .port = bytes.port,
                             .fence = static_cast<FencePolicy>(bytes.fence)}};
  if (bytes.agent_name_bytes > kMostAgentNameBytes || bytes.agent_options_bytes > kMostAgentOptionsBytes ||
      bytes.expelled_bytes > kMostExpelledBytes)
    return fail_corrupt("cluster area: header: agent's name of {} bytes, options of {}, names of expelled nodes of {}",
                        bytes.agent_name_bytes, bytes.agent_options_bytes.value(), bytes.expelled_bytes.value());
  header.settings.fence_agent.assign(bytes.agent_name.data(), bytes.agent_name_bytes);
  header.settings.fence_agent_options.assign(bytes.agent_options.data(), bytes.agent_options_bytes);
  TRY(header.expelled, unpacked({bytes.expelled.data(), bytes.expelled_bytes}));
  for (std::size_t i = 0; i < kSlots; ++i)
    header.acknowledged[i] = {Incarnation(bytes.acknowledged[i].incarnation), bytes.acknowledged[i].heartbeat};
  if (auto checked = check_settings(header.settings); !checked)
    return fail_corrupt("cluster area: header: {}", checked.error().message());
  return header;
}

void encode_view(const ViewRecord& state, std::span<std::byte> record) {
  const std::vector<Member>& members = state.view.members;
  CHECK_INVARIANT(members.size() <= kSlots && state.view.well_formed());
  begin_record(record, RecordType::view, state.generation, state.cluster);
  auto& bytes = view<ViewBytes>(record);
  bytes.number = state.view.number.value;
  bytes.leader = state.leader.value;
  bytes.expected_nodes = state.expected_nodes;
  bytes.member_count = static_cast<std::uint32_t>(members.size());
  for (std::size_t i = 0; i < members.size(); ++i) {
    bytes.members[i].slot = members[i].node.value;
    bytes.members[i].incarnation = members[i].incarnation.value;
  }
  seal(record);
}

Result<ViewRecord> decode_view(std::span<const std::byte> record) {
  CHECK_INVARIANT(record.size() == kRecordBytes);
  TRY_VOID(check_record(record, RecordType::view, "view"));
  const auto& bytes = view<ViewBytes>(record);
  const std::uint32_t count = bytes.member_count;
  if (count > kSlots) return fail_corrupt("cluster area: view: {} members, expected at most {}", count, kSlots);
  ViewRecord state{.generation = bytes.head.generation,
                   .cluster = bytes.head.cluster,
                   .view = {.number = ViewNumber(bytes.number), .members = {}},
                   .leader = NodeId(bytes.leader),
                   .expected_nodes = bytes.expected_nodes};
  for (std::uint32_t i = 0; i < count; ++i) {
    const Member member{NodeId(bytes.members[i].slot), Incarnation(bytes.members[i].incarnation)};
    if (!member.incarnation)
      return fail_corrupt("cluster area: view: member {} with slot {} and no incarnation", i, member.node.value);
    state.view.members.push_back(member);
  }
  if (!state.view.well_formed()) return fail_corrupt("cluster area: view: members out of order or range");
  if (state.leader.value >= kSlots || state.expected_nodes < count)
    return fail_corrupt("cluster area: view: leader {}, {} nodes expected, {} members", state.leader.value,
                        state.expected_nodes, count);
  return state;
}

void encode_slot(const Slot& slot, std::span<std::byte> record) {
  CHECK_INVARIANT(slot.id.value < kSlots && slot.name.size() <= kNameMostBytes);
  CHECK_INVARIANT(slot.addresses.size() <= kMostAddresses);
  begin_record(record, RecordType::slot, 0, slot.cluster);
  auto& bytes = view<SlotBytes>(record);
  bytes.slot = slot.id.value;
  bytes.state = static_cast<std::uint32_t>(slot.state);
  bytes.incarnation = slot.incarnation.value;
  bytes.key = slot.key;
  bytes.heartbeat = slot.heartbeat;
  bytes.view_number = slot.view.value;
  bytes.protocol_version = slot.protocol_version;
  bytes.cycle_ms = slot.cycle_ms;
  bytes.port = slot.port;
  bytes.health = slot.health;
  bytes.fenced = static_cast<std::uint8_t>(slot.fenced);
  bytes.address_count = static_cast<std::uint8_t>(slot.addresses.size());
  std::ranges::copy(slot.addresses, bytes.addresses.begin());
  bytes.name_bytes = static_cast<std::uint8_t>(slot.name.size());
  std::ranges::copy(slot.name, bytes.name.begin());
  for (std::uint32_t i = 0; i < kSlots; ++i) {
    if (slot.hears[i]) bytes.hears[i / 8] = static_cast<std::uint8_t>(bytes.hears[i / 8] | 1u << i % 8);
  }
  seal(record.first(kSlotRecordBytes));
}

Result<Slot> decode_slot(std::span<const std::byte> record, NodeId id) {
  CHECK_INVARIANT(record.size() == kRecordBytes);
  const std::string what = fmt::format("slot {}", id.value);
  TRY_VOID(check_record(record.first(kSlotRecordBytes), RecordType::slot, what));
  const auto& bytes = view<SlotBytes>(record);
  Slot slot{.id = id,
            .cluster = bytes.head.cluster,
            .state = static_cast<SlotState>(bytes.state.value()),
            .incarnation = Incarnation(bytes.incarnation),
            .key = bytes.key,
            .heartbeat = bytes.heartbeat,
            .view = ViewNumber(bytes.view_number),
            .protocol_version = bytes.protocol_version,
            .cycle_ms = bytes.cycle_ms,
            .health = bytes.health,
            .fenced = static_cast<FencedLife>(bytes.fenced),
            .port = bytes.port};
  if (bytes.slot != id.value) return fail_corrupt("cluster area: {}: carries number {}", what, bytes.slot.value());
  if (bytes.state > static_cast<std::uint32_t>(SlotState::member))
    return fail_corrupt("cluster area: {}: state {} is not known", what, bytes.state.value());
  if (bytes.address_count > kMostAddresses || bytes.name_bytes > kNameMostBytes)
    return fail_corrupt("cluster area: {}: {} addresses, name of {} bytes", what, bytes.address_count,
                        bytes.name_bytes);
  if (bytes.fenced > static_cast<std::uint8_t>(FencedLife::earlier))
    return fail_corrupt("cluster area: {}: fenced life {} is not known", what, bytes.fenced);
  slot.addresses.assign(bytes.addresses.begin(), bytes.addresses.begin() + bytes.address_count);
  slot.name.assign(bytes.name.begin(), bytes.name.begin() + bytes.name_bytes);
  for (std::uint32_t i = 0; i < kSlots; ++i)
    slot.hears[i] = (bytes.hears[i / 8] >> i % 8 & 1) != 0;
  if (slot.state != SlotState::free && (!slot.incarnation || !is_valid_node_name(slot.name)))
    return fail_corrupt("cluster area: {}: state {} with incarnation {:#x} and a name of {} bytes", what,
                        bytes.state.value(), slot.incarnation.value, slot.name.size());
  return slot;
}

}  // namespace corral::cluster
