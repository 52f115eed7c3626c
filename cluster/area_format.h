/// The cluster area's records, byte for byte: section "Cluster area" of docs/SPEC.md. Pure: bytes in, values or an
/// error out. All integers are big-endian, as everywhere on a GFS2 volume.
///
/// Every record is 4096 bytes long and aligned to 4096 bytes on the device. Header and view exist twice: a write goes
/// to the copy that is not in force, so one that is torn leaves the other. A slot exists once, and all that it says
/// lies in its first 512 bytes, which every device writes whole or not at all.
#pragma once

#include <array>
#include <bitset>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "cluster/member.h"

namespace corral::cluster {

using Uuid = std::array<std::uint8_t, 16>;
using Secret = std::array<std::uint8_t, 32>;
/// IPv6, or IPv4 as ::ffff:a.b.c.d, in network order.
using Address = std::array<std::uint8_t, 16>;

/// Name of the area's file in the master directory.
constexpr std::string_view kAreaFileName = "corral_cluster";

constexpr std::uint64_t kRecordBytes = 4096;
constexpr std::uint32_t kSlotRecordBytes = 512;  ///< what is used of a slot's record
constexpr std::uint32_t kFormatVersion = 1;
constexpr std::uint32_t kSlots = kNodesMax;
constexpr std::uint64_t kHeaderRecord = 0;
constexpr std::uint64_t kViewRecord = 2;
constexpr std::uint64_t kFirstSlotRecord = 4;
constexpr std::uint64_t kAreaBytes = (kFirstSlotRecord + kSlots) * kRecordBytes;

constexpr std::size_t kNameMostBytes = 64;
constexpr std::size_t kMostAddresses = 4;
constexpr std::size_t kMostAgentNameBytes = 64;
constexpr std::size_t kMostAgentOptionsBytes = 864;
constexpr std::size_t kMostExpelledBytes = 1024;  ///< of all names, each with the 0 that ends it

/// Size of the area's file: where blocks are smaller than a record, it has room to begin at any block.
constexpr std::uint64_t area_file_bytes(std::uint32_t block_size) {
  return kAreaBytes + (block_size < kRecordBytes ? kRecordBytes - block_size : 0);
}

/// Which of the members that are left may go on.
enum class QuorumPolicy : std::uint32_t {
  last_man_standing = 0,  ///< the disk decides; a single node may be all that is left
  majority = 1,           ///< more than half of the nodes that have not left orderly
};

/// How the dead are kept from writing (fence/fencing.h).
enum class FencePolicy : std::uint8_t {
  scsi_pr = 0,  ///< by persistent reservations
  agent = 1,    ///< a program turns the node's host off
  manual = 2,   ///< an operator turns it off, and says so
};

/// What an operator can set; the same for every node.
struct Settings {
  std::uint32_t failure_timeout_ms = 5000;
  QuorumPolicy quorum = QuorumPolicy::last_man_standing;
  std::uint16_t port = 7007;  ///< TCP, of nodes that do not choose their own
  FencePolicy fence = FencePolicy::scsi_pr;
  std::string fence_agent{};          ///< the program's name, with FencePolicy::agent; else empty
  std::string fence_agent_options{};  ///< "key=value key=value"

  bool operator==(const Settings&) const = default;
};
constexpr std::uint32_t kLeastFailureTimeoutMs = 1000;
constexpr std::uint32_t kMostFailureTimeoutMs = 600'000;

/// An operator's word that a life of a node can write nothing more. It is about the life as it stood still: if its
/// heart has beaten since, or its node has a later life, it says nothing.
struct FenceAcknowledgement {
  Incarnation incarnation{};
  std::uint64_t heartbeat = 0;

  bool operator==(const FenceAcknowledgement&) const = default;
};

/// Written by operators' commands only.
struct Header {
  std::uint64_t generation = 0;  ///< of this state of the record: the highest of the two copies is in force
  Uuid cluster{};
  Secret secret{};
  Settings settings{};
  std::array<FenceAcknowledgement, kSlots> acknowledged{};  ///< the last one for each slot
  std::vector<std::string> expelled{};                      ///< names of nodes that are not to be let in

  bool operator==(const Header&) const = default;
};

/// Who is in the cluster, as recorded. The view's number is 0 where there was none yet.
struct ViewRecord {
  std::uint64_t generation = 0;
  Uuid cluster{};
  View view{};
  NodeId leader{};  ///< who recorded it
  /// Nodes that joined and have not left orderly since: the base of a majority. At least the number of members.
  std::uint32_t expected_nodes = 0;

  bool operator==(const ViewRecord& other) const;
};

enum class SlotState : std::uint32_t {
  free = 0,     ///< nobody's: never used, left orderly, or recovered
  joining = 1,  ///< claimed by a node that no view contains yet; it has not touched its journal
  member = 2,   ///< in a view, or about to be: its journal may be in use
};

/// Whether a life that was fenced may still have commands on their way to the disk, for all that is known: its host was
/// not heard of since. The reservation must outlast it.
enum class FencedLife : std::uint8_t {
  none = 0,
  last = 1,     ///< of a free slot: the last life that had it. It has ended when its node comes back.
  earlier = 2,  ///< another node's, which had the slot before
};

/// What a node says of itself, and its heartbeat.
struct Slot {
  NodeId id{};
  Uuid cluster{};
  SlotState state = SlotState::free;
  Incarnation incarnation{};    ///< in a free slot: the last one that had it
  std::uint64_t key = 0;        ///< reservation key
  std::uint64_t heartbeat = 0;  ///< rises with every write of this incarnation
  ViewNumber view{};
  std::uint32_t protocol_version = 0;
  std::uint32_t cycle_ms = 0;  ///< how long the heartbeat's last reading and writing took, in all
  std::uint8_t health = 0;     ///< 0 to 100: 100 is sound
  FencedLife fenced = FencedLife::none;
  std::uint16_t port = 0;
  std::vector<Address> addresses{};
  std::string name{};           ///< valid UTF-8 without control characters
  std::bitset<kSlots> hears{};  ///< slots of the nodes whose link to it is up

  bool operator==(const Slot&) const = default;
  Member member() const { return {id, incarnation}; }
};

/// True where an operator's word holds for the life that the slot carries.
bool is_acknowledged(const Header& header, const Slot& slot);

/// True for a name that a slot can carry: 1 to 64 bytes, printable ASCII without spaces.
bool is_valid_node_name(std::string_view name);
/// True for the name of a fence agent's program: "fence_", then letters, digits, '_', '-' and '.'; at most 64 bytes.
bool is_valid_agent_name(std::string_view name);
/// EINVAL with a message for settings that no header may have.
Result<> check_settings(const Settings& settings);
/// ENOSPC where the names of expelled nodes have no room in a header.
Result<> check_expelled(const std::vector<std::string>& names);

/// Each fills a whole record (kRecordBytes).
void encode_header(const Header& header, std::span<std::byte> record);
void encode_view(const ViewRecord& view, std::span<std::byte> record);
void encode_slot(const Slot& slot, std::span<std::byte> record);

/// From a whole record. Errors are corrupt (EIO) and say what is wrong; EPROTONOSUPPORT where the version is newer.
Result<Header> decode_header(std::span<const std::byte> record);
Result<ViewRecord> decode_view(std::span<const std::byte> record);
Result<Slot> decode_slot(std::span<const std::byte> record, NodeId id);

}  // namespace corral::cluster
