/// What nodes say to each other about membership, and its bytes: section "Membership messages" of docs/SPEC.md. Pure.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "cluster/member.h"

namespace corral::cluster {

/// Of all that nodes say to each other. Nodes of different versions do not share a cluster.
constexpr std::uint32_t kProtocolVersion = 2;

struct MembershipMessage {
  enum class Type : std::uint8_t {
    join = 1,      ///< to every member: let me in; number: protocol version
    refuse = 2,    ///< answer to join; text says why; number 1: claim another slot and ask again
    leave = 3,     ///< to every member: take me out of the view
    reform = 4,    ///< to every member: a connection between members broke in view `number`
    prepare = 5,   ///< from the leader: view `number` with `members` is to come
    prepared = 6,  ///< answer to prepare
    commit = 7,    ///< from the leader: view `number` is recorded
    ping = 8,      ///< to every peer, every interval: a link that carries nothing does not notice that it is cut
  };
  Type type = Type::join;
  std::uint64_t number = 0;
  std::vector<Member> members{};  ///< of prepare
  std::string text{};             ///< of refuse

  bool operator==(const MembershipMessage&) const = default;
};

std::vector<std::byte> encode(const MembershipMessage& message);
/// EPROTO with what is wrong, for bytes that are no message.
Result<MembershipMessage> decode_membership(std::span<const std::byte> bytes);

}  // namespace corral::cluster
