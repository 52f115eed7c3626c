// The state machine by itself, in situations that whole clusters come into too seldom.
#include "cluster/membership_core.h"

#include <array>
#include <functional>

#include "test/support/catch.h"

using namespace corral;
using namespace corral::cluster;
using namespace std::chrono_literals;

namespace {

template <class Kind>
const Kind* find(const Actions& actions) {
  for (const Action& action : actions) {
    if (const Kind* found = std::get_if<Kind>(&action)) return found;
  }
  return nullptr;
}

/// One node, and what it finds on the disk: two slots and the view.
class Alone {
 public:
  explicit Alone(std::uint32_t slot) {
    for (std::uint32_t i = 0; i < 2; ++i)
      slots[i] = {.id = NodeId(i), .name = i == slot ? "self" : "other"};
  }

  /// A reading of the area half a second after the one before.
  Actions scan() {
    now += 500ms;
    return core.scanned({.began = now,
                         .ended = now,
                         .record = record,
                         .slots = {{slots[0], {}}, {slots[1], {}}},
                         .expelled = expelled});
  }
  /// Claims its slot and holds it.
  void claim() {
    const Actions begun = scan();
    REQUIRE(find<ClaimSlot>(begun) != nullptr);
    self = find<ClaimSlot>(begun)->slot.member();
    slots[self.node.value] = find<ClaimSlot>(begun)->slot;
    core.claimed(now, {});
    while (core.phase() == MembershipCore::Phase::claiming)
      scan();
    REQUIRE(core.phase() == MembershipCore::Phase::asking);
  }
  void view(std::uint64_t number, std::vector<Member> members) {
    record = {.generation = record.generation + 1,
              .view = {.number = ViewNumber(number), .members = std::move(members)},
              .leader = NodeId(0),
              .expected_nodes = 2};
  }
  /// Slot 1 as a life that writes heartbeats has it.
  void beat(Incarnation incarnation, SlotState state) {
    slots[1].state = state;
    slots[1].incarnation = incarnation;
    ++slots[1].heartbeat;
  }

  Time now = Time{} + 1000s;
  MembershipCore core{{}, {.name = "self", .journals = 2, .incarnation = Incarnation(100)}, Random(1)};
  std::array<Slot, 2> slots;
  ViewRecord record;
  std::vector<std::string> expelled;
  Member self;
};

/// A member together with node 1, which is left out of the next view while its slot shows something else.
/// Returns what the node does until `member` may be replayed.
void replays_before_it_gives_on(Alone& alone, Member member, const std::function<void()>& show) {
  show();
  alone.view(6, {alone.self});
  bool fenced = false, replayed = false;
  for (int scans = 0; scans < 40 && !replayed; ++scans) {
    show();
    const Actions actions = alone.scan();
    INFO("scan " << scans);
    REQUIRE(find<NodeRecovered>(actions) == nullptr);
    if (const auto* fence = find<FenceNode>(actions); fence != nullptr && fence->victim == member) {
      fenced = true;
      alone.core.fenced(alone.now, member, {});
    }
    const auto* recover = find<RecoverNode>(actions);
    replayed = recover != nullptr && recover->member == member;
  }
  REQUIRE(fenced);
  REQUIRE(replayed);
  const Actions done = alone.core.recovered(member);
  CHECK(find<FreeSlot>(done) != nullptr);
  REQUIRE(find<NodeRecovered>(done) != nullptr);
  CHECK(find<NodeRecovered>(done)->member == member);
}

Member joined_with(Alone& alone) {
  const Member other{NodeId(1), Incarnation(500)};
  alone.claim();
  alone.beat(other.incarnation, SlotState::member);
  alone.view(5, {alone.self, other});
  REQUIRE(find<ViewInstalled>(alone.scan()) != nullptr);
  return other;
}

}  // namespace

TEST_CASE("who was too late to be first is not let in by its own record") {
  Alone alone(1);
  alone.claim();
  const Actions elected = alone.scan();
  const auto* record = find<RecordView>(elected);
  REQUIRE(record != nullptr);
  // It comes to the disk long after another may have looked whether its own stayed.
  alone.record = record->record;
  ++alone.record.generation;
  alone.now += 2s;
  const Actions late = alone.core.recorded(alone.now, alone.record);
  REQUIRE(find<FreeSlot>(late) != nullptr);
  CHECK(find<FreeSlot>(late)->member == alone.self);
  const Member before = alone.self;
  // It comes back as another.
  const Actions next = alone.scan();
  CHECK(find<ViewInstalled>(next) == nullptr);
  REQUIRE(find<ClaimSlot>(next) != nullptr);
  CHECK(find<ClaimSlot>(next)->slot.incarnation > before.incarnation);
}

TEST_CASE("who took a dead member's slot does not make it recovered") {
  Alone alone(0);
  const Member other = joined_with(alone);
  // Somebody found all slots silent, and fenced it; nobody has replayed its journal.
  replays_before_it_gives_on(alone, other, [&] { alone.beat(Incarnation(900), SlotState::joining); });
}

TEST_CASE("a slot that was freed for an earlier life does not make a member recovered") {
  Alone alone(0);
  const Member other = joined_with(alone);
  // Its node died before it could write over that.
  replays_before_it_gives_on(alone, other,
                             [&] { alone.slots[1] = {.id = NodeId(1), .incarnation = Incarnation(400)}; });
}

TEST_CASE("a fenced life that writes again is fenced again before it is replayed") {
  Alone alone(0);
  const Member other = joined_with(alone);
  const auto scan_and_fence = [&] {
    const Actions actions = alone.scan();
    REQUIRE(find<RecoverNode>(actions) == nullptr);
    const auto* fence = find<FenceNode>(actions);
    if (fence == nullptr) return false;
    CHECK(fence->victim == other);
    alone.core.fenced(alone.now, other, {});
    return true;
  };
  bool fenced = false;
  for (int scans = 0; scans < 40 && !fenced; ++scans)
    fenced = scan_and_fence();
  REQUIRE(fenced);
  // A registration that was long under way lets heartbeats through.
  fenced = false;
  for (int beats = 0; beats < 2; ++beats) {
    alone.beat(other.incarnation, SlotState::member);
    fenced = scan_and_fence() || fenced;
  }
  for (int scans = 0; scans < 40 && !fenced; ++scans)
    fenced = scan_and_fence();
  REQUIRE(fenced);
  alone.view(6, {alone.self});
  bool recovers = false;
  for (int scans = 0; scans < 40 && !recovers; ++scans)
    recovers = find<RecoverNode>(alone.scan()) != nullptr;
  CHECK(recovers);
}

TEST_CASE("who was said to write nothing more, and beats again, has to be fenced once more") {
  Alone alone(0);
  const Member other = joined_with(alone);
  const auto fences = [&] {
    const Actions actions = alone.scan();
    const auto* fence = find<FenceNode>(actions);
    return fence != nullptr && fence->victim == other;
  };
  int scans = 0;
  while (!fences())
    REQUIRE(++scans < 40);
  alone.core.fenced(alone.now, other, {});
  // The first heartbeat may have been on its way.
  alone.beat(other.incarnation, SlotState::member);
  CHECK_FALSE(fences());
  CHECK_FALSE(fences());
  CHECK_FALSE(alone.core.wants_fenced(other));
  // Its host was not off, and hung only. The two do not hear each other, so one of them has to go all the same.
  alone.beat(other.incarnation, SlotState::member);
  bool again = false;
  for (int more = 0; more < 40 && !again; ++more)
    again = fences();
  CHECK(again);
  CHECK(alone.core.wants_fenced(other));
}

TEST_CASE("an expelled member is fenced although its heart beats, and not let in again") {
  Alone alone(0);
  const Member other = joined_with(alone);
  alone.core.connected(other);
  alone.slots[1].hears.set(alone.self.node.value);
  const auto goes_on = [&] {
    alone.beat(other.incarnation, SlotState::member);
    return alone.scan();
  };
  for (int scans = 0; scans < 10; ++scans)
    REQUIRE(find<FenceNode>(goes_on()) == nullptr);
  alone.expelled = {"other"};
  const Actions actions = goes_on();
  REQUIRE(find<FenceNode>(actions) != nullptr);
  CHECK(find<FenceNode>(actions)->victim == other);
  alone.core.fenced(alone.now, other, {});
  alone.core.disconnected(other);
  // It falls silent, is left out and recovered.
  const RecordView* left_out = nullptr;
  Actions late;
  for (int scans = 0; scans < 40 && left_out == nullptr; ++scans) {
    late = alone.scan();
    left_out = find<RecordView>(late);
  }
  REQUIRE(left_out != nullptr);
  CHECK(left_out->record.view.members == std::vector{alone.self});
  CHECK(left_out->record.expected_nodes == 1);
  alone.record = left_out->record;
  ++alone.record.generation;
  alone.core.recorded(alone.now, alone.record);
  for (int scans = 0; scans < 40 && find<RecoverNode>(late) == nullptr; ++scans)
    late = alone.scan();
  REQUIRE(find<RecoverNode>(late) != nullptr);
  alone.core.recovered(other);
  // Its next life asks.
  const Member next{other.node, other.incarnation + 1};
  alone.slots[1] = {.id = next.node, .name = "other"};
  alone.scan();
  alone.core.connected(next);
  const SendMessage* refusal = nullptr;
  for (int scans = 0; scans < 10 && refusal == nullptr; ++scans) {
    alone.beat(next.incarnation, SlotState::joining);
    alone.core.received(alone.now, next, {.type = MembershipMessage::Type::join, .number = kProtocolVersion});
    late = alone.scan();
    for (const Action& action : late) {
      const auto* message = std::get_if<SendMessage>(&action);
      if (message != nullptr && message->message.type == MembershipMessage::Type::refuse) refusal = message;
    }
  }
  REQUIRE(refusal != nullptr);
  CHECK(refusal->message.text.contains("expelled"));
}

TEST_CASE("who finds itself expelled is no member any more") {
  Alone alone(0);
  const Member other = joined_with(alone);
  alone.beat(other.incarnation, SlotState::member);
  alone.expelled = {"self"};
  const Actions actions = alone.scan();
  REQUIRE(find<MembershipEnded>(actions) != nullptr);
  CHECK(find<MembershipEnded>(actions)->why == MembershipEnded::Why::lost);
  CHECK(find<FreeSlot>(actions) == nullptr);
  Alone joining(0);
  joining.claim();
  joining.expelled = {"self"};
  const Actions refused = joining.scan();
  REQUIRE(find<MembershipEnded>(refused) != nullptr);
  CHECK(find<MembershipEnded>(refused)->why == MembershipEnded::Why::refused);
  CHECK(find<FreeSlot>(refused) != nullptr);
}
