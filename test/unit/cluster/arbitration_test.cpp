#include "cluster/arbitration.h"

#include "base/random.h"
#include "cluster/membership_message.h"
#include "test/support/catch.h"

using namespace corral;
using namespace corral::cluster;

namespace {

using Pairs = std::vector<std::pair<std::uint32_t, std::uint32_t>>;

/// Voters 0 to count - 1 that hear each other but for the pairs (first does not hear second).
std::vector<Voter> voters_without(std::uint32_t count, const Pairs& deaf) {
  std::vector<Voter> voters;
  for (std::uint32_t i = 0; i < count; ++i) {
    voters.push_back({.node = NodeId(i), .health = 100, .hears = {}});
    for (std::uint32_t j = 0; j < count; ++j)
      voters.back().hears[j] = i != j;
  }
  for (const auto& [from, to] : deaf)
    voters[from].hears.reset(to);
  return voters;
}

std::vector<std::uint32_t> surviving(const std::vector<Voter>& voters) {
  std::vector<std::uint32_t> numbers;
  for (NodeId node : survivors(voters))
    numbers.push_back(node.value);
  return numbers;
}

/// Every subset tried: the size of the largest in which all hear each other.
std::size_t largest(const std::vector<Voter>& voters) {
  std::size_t best = 0;
  for (std::uint32_t set = 0; set < 1u << voters.size(); ++set) {
    std::vector<Voter> chosen;
    for (std::size_t i = 0; i < voters.size(); ++i) {
      if ((set >> i & 1) != 0) chosen.push_back(voters[i]);
    }
    if (all_hear_each_other(chosen)) best = std::max(best, chosen.size());
  }
  return best;
}

using Numbers = std::vector<std::uint32_t>;

}  // namespace

TEST_CASE("who hears everybody stays, the larger set wins, then health, then the lowest node") {
  CHECK(surviving(voters_without(3, {})) == Numbers{0, 1, 2});
  CHECK(surviving(voters_without(3, {{0, 1}, {0, 2}})) == Numbers{1, 2});
  CHECK(surviving(voters_without(2, {{0, 1}, {1, 0}})) == Numbers{0});
  CHECK(surviving(voters_without(3, {{2, 0}})) == Numbers{0, 1});
  const Pairs halves{{0, 2}, {0, 3}, {1, 2}, {1, 3}};
  CHECK(surviving(voters_without(4, halves)) == Numbers{0, 1});
  std::vector<Voter> sick = voters_without(4, halves);
  sick[1].health = 99;
  CHECK(surviving(sick) == Numbers{2, 3});
  CHECK(surviving({}).empty());
}

TEST_CASE("the set that survives is the largest there is, and all hear each other in it") {
  Random random(5);
  for (int round = 0; round < 300; ++round) {
    const auto count = static_cast<std::uint32_t>(random.between(1, 9));
    std::vector<Voter> voters = voters_without(count, {});
    for (Voter& voter : voters) {
      for (std::uint32_t j = 0; j < count; ++j) {
        if (random.chance(1, 3)) voter.hears.reset(j);
      }
    }
    std::vector<Voter> chosen;
    for (NodeId node : survivors(voters))
      chosen.push_back(voters[node.value]);
    CHECK(all_hear_each_other(chosen));
    CHECK(chosen.size() == largest(voters));
  }
}

TEST_CASE("64 nodes are arbitrated in no time, however they hear each other") {
  Random random(6);
  std::vector<Voter> voters = voters_without(kSlots, {});
  for (Voter& voter : voters) {
    for (std::uint32_t j = 0; j < kSlots; ++j) {
      if (random.chance(1, 20)) voter.hears.reset(j);
    }
  }
  CHECK(survivors(voters).size() > 1);
}

TEST_CASE("votes are counted as with a quorum disk") {
  const Votes all = count_votes(QuorumPolicy::last_man_standing, 5, 5);
  CHECK((all.nodes == 5 && all.disk == 4 && all.expected == 9 && all.quorum == 5 && all.quorate()));
  CHECK(count_votes(QuorumPolicy::last_man_standing, 1, 5).quorate());
  CHECK_FALSE(count_votes(QuorumPolicy::last_man_standing, 0, 5).quorate());
  CHECK(count_votes(QuorumPolicy::majority, 3, 5).quorate());
  CHECK_FALSE(count_votes(QuorumPolicy::majority, 2, 4).quorate());
}

TEST_CASE("membership messages come back as they were sent, and other bytes are refused") {
  MembershipMessage message{.type = MembershipMessage::Type::prepare, .number = 77, .members = {}, .text = "why"};
  message.members = {{NodeId(1), Incarnation(5)}, {NodeId(9), Incarnation(6)}};
  std::vector<std::byte> bytes = encode(message);
  CHECK(*decode_membership(bytes) == message);
  for (std::size_t length = 0; length < bytes.size(); ++length)
    CHECK_FALSE(decode_membership(std::span(bytes).first(length)));
  bytes.push_back({});
  CHECK_FALSE(decode_membership(bytes));
  std::swap(message.members[0], message.members[1]);
  CHECK_FALSE(decode_membership(encode(message)));
  Random random(9);
  for (int round = 0; round < 2000; ++round) {
    std::vector<std::byte> noise(random.below(60));
    for (std::byte& byte : noise)
      byte = static_cast<std::byte>(random.below(10));
    (void)decode_membership(noise);
  }
}
