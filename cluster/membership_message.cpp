#include "cluster/membership_message.h"

#include <cstring>

#include "base/check.h"
#include "ondisk/endian.h"
#include "ondisk/layout.h"

namespace corral::cluster {

using ondisk::be16;
using ondisk::be32;
using ondisk::be64;
using ondisk::view;

namespace {

constexpr std::size_t kMostTextBytes = 512;

struct MessageBytes {
  std::uint8_t type;
  std::uint8_t reserved;
  be16 member_count;
  be32 text_bytes;
  be64 number;
};
static_assert(sizeof(MessageBytes) == 16);

struct MemberBytes {
  be32 node;
  be32 reserved;
  be64 incarnation;
};

}  // namespace

std::vector<std::byte> encode(const MembershipMessage& message) {
  const std::string_view text = std::string_view(message.text).substr(0, kMostTextBytes);
  CHECK_INVARIANT(message.members.size() <= kNodesMax);
  std::vector<std::byte> bytes(sizeof(MessageBytes) + message.members.size() * sizeof(MemberBytes) + text.size());
  auto& head = view<MessageBytes>(bytes);
  head.type = static_cast<std::uint8_t>(message.type);
  head.member_count = static_cast<std::uint16_t>(message.members.size());
  head.text_bytes = static_cast<std::uint32_t>(text.size());
  head.number = message.number;
  std::size_t at = sizeof(MessageBytes);
  for (const Member& member : message.members) {
    view<MemberBytes>(bytes, at) = {.node = member.node.value, .reserved = {}, .incarnation = member.incarnation.value};
    at += sizeof(MemberBytes);
  }
  std::memcpy(bytes.data() + at, text.data(), text.size());
  return bytes;
}

Result<MembershipMessage> decode_membership(std::span<const std::byte> bytes) {
  if (bytes.size() < sizeof(MessageBytes)) return fail(EPROTO, "membership message of {} bytes", bytes.size());
  const auto& head = view<MessageBytes>(bytes);
  const std::size_t members = head.member_count;
  const std::size_t text = head.text_bytes;
  if (head.type < 1 || head.type > static_cast<std::uint8_t>(MembershipMessage::Type::ping))
    return fail(EPROTO, "membership message of type {}", head.type);
  if (members > kNodesMax || text > kMostTextBytes ||
      bytes.size() != sizeof(MessageBytes) + members * sizeof(MemberBytes) + text)
    return fail(EPROTO, "membership message of {} bytes with {} members and {} bytes of text", bytes.size(), members,
                text);
  MembershipMessage message{.type = static_cast<MembershipMessage::Type>(head.type), .number = head.number};
  View checked;
  for (std::size_t i = 0; i < members; ++i) {
    const auto& member = view<MemberBytes>(bytes, sizeof(MessageBytes) + i * sizeof(MemberBytes));
    checked.members.push_back({NodeId(member.node), Incarnation(member.incarnation)});
  }
  if (!checked.well_formed()) return fail(EPROTO, "membership message with members out of order");
  message.members = std::move(checked.members);
  message.text.assign(reinterpret_cast<const char*>(bytes.data()) + bytes.size() - text, text);
  for (char& c : message.text) {
    if (c < ' ' || c > '~') c = '?';
  }
  return message;
}

}  // namespace corral::cluster
