// What peers say to a member: first the input as the bytes of one message, then as a script of messages, connections
// and looks at the disk. Whatever comes, the member keeps its invariants, and leads or follows a view that has it.
#include <set>

#include "base/check.h"
#include "cluster/membership_core.h"
#include "test/fuzz/input.h"

using namespace corral;
using namespace corral::cluster;
using namespace std::chrono_literals;

namespace {

constexpr std::uint32_t kSlotsHere = 4;

class Script {
 public:
  Script(const std::uint8_t* data, std::size_t size) : data_(data), size_(size) {}
  bool empty() const { return at_ >= size_; }
  std::uint8_t byte() { return empty() ? std::uint8_t{0} : data_[at_++]; }

 private:
  const std::uint8_t* data_;
  std::size_t size_;
  std::size_t at_ = 0;
};

/// The disk, and one node that lives on it.
class Node {
 public:
  Node() : core_({}, {.name = "here", .journals = kSlotsHere, .incarnation = Incarnation(1)}, Random(1)) {
    for (std::uint32_t i = 0; i < kSlotsHere; ++i)
      slots_.push_back({Slot{.id = NodeId(i)}, {}});
  }

  MembershipCore& core() { return core_; }

  void look() {
    now_ += core_.timing().heartbeat_interval;
    if (auto slot = core_.next_heartbeat()) {
      slots_[slot->id.value].slot = *slot;
      carry_out(core_.heartbeat_written(now_, {}));
    }
    carry_out(core_.scanned({now_, now_, record_, slots_}));
  }
  /// As links do: one connection to each life of another node, and messages only over those.
  void connect(Member peer) {
    if (peer.node != core_.self().node && connected_.insert(peer).second) carry_out(core_.connected(peer));
  }
  void disconnect(Member peer) {
    if (connected_.erase(peer) > 0) carry_out(core_.disconnected(peer));
  }
  void receive(Member from, const MembershipMessage& message) {
    if (!connected_.contains(from)) return;
    const auto decoded = decode_membership(encode(message));
    if (decoded) carry_out(core_.received(now_, from, *decoded));
  }
  /// A node that has claimed a slot, or beats on in it.
  void beat(Member peer) {
    std::optional<Slot>& slot = slots_[peer.node.value].slot;
    slot = Slot{.id = peer.node,
                .state = SlotState::joining,
                .incarnation = peer.incarnation,
                .heartbeat = ++beats_,
                .name = "peer" + std::to_string(peer.node.value)};
  }
  /// As the user of the core would; what has an answer is answered well.
  void carry_out(Actions actions) {
    for (Action& action : actions) {
      if (auto* claim = std::get_if<ClaimSlot>(&action)) {
        slots_[claim->slot.id.value].slot = claim->slot;
        carry_out(core_.claimed(now_, {}));
      } else if (std::holds_alternative<OpenLink>(action)) {
        connected_.clear();
      } else if (auto* fence = std::get_if<FenceNode>(&action)) {
        carry_out(core_.fenced(now_, fence->victim, {}));
      } else if (auto* write = std::get_if<RecordView>(&action)) {
        CHECK_INVARIANT(write->record.view.well_formed());
        record_ = write->record;
        ++record_.generation;
        carry_out(core_.recorded(now_, record_));
      } else if (auto* recover = std::get_if<RecoverNode>(&action)) {
        carry_out(core_.recovered(recover->member));
      } else if (auto* free = std::get_if<FreeSlot>(&action)) {
        slots_[free->member.node.value].slot = Slot{.id = free->member.node, .incarnation = free->member.incarnation};
      } else if (auto* installed = std::get_if<ViewInstalled>(&action)) {
        CHECK_INVARIANT(installed->view.contains(core_.self()));
      }
    }
  }

 private:
  MembershipCore core_;
  Time now_{1s};
  std::vector<FoundSlot> slots_;
  ViewRecord record_;
  std::set<Member> connected_;
  std::uint64_t beats_ = 0;
};

Member any_member(Script& script) {
  const std::uint8_t choice = script.byte();
  return {NodeId(choice % kSlotsHere), Incarnation(1 + choice / kSlotsHere % 4)};
}

MembershipMessage any_message(Script& script, const View& view) {
  MembershipMessage message;
  message.type = static_cast<MembershipMessage::Type>(1 + script.byte() % 8);
  const std::uint8_t number = script.byte();
  message.number = number < 128 ? view.number.value + number % 8 : number % 4;
  for (std::uint8_t i = script.byte() % 5; i > 0; --i)
    message.members.push_back(any_member(script));
  if (script.byte() % 4 == 0) std::ranges::sort(message.members);
  return message;
}

void step(Node& node, Script& script) {
  MembershipCore& core = node.core();
  switch (script.byte() % 8) {
    case 0:
      return node.connect(any_member(script));
    case 1:
      return node.disconnect(any_member(script));
    case 2:
      return node.beat(any_member(script));
    case 3:
    case 4: {
      const Member from = any_member(script);
      return node.receive(from, any_message(script, core.view()));
    }
    case 5:
      if (script.byte() % 16 == 0) node.carry_out(core.leave());
      return;
    default:
      return node.look();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::vector<std::byte> bytes = fuzz::block_of(data, size);
  if (const auto message = decode_membership(std::span(bytes).first(std::min(size, bytes.size())))) {
    const auto again = decode_membership(encode(*message));
    CHECK_INVARIANT(again && *again == *message);
  }
  Script script(data, std::min<std::size_t>(size, 512));
  Node node;
  for (int i = 0; i < 40 && node.core().phase() != MembershipCore::Phase::member; ++i)
    node.look();
  CHECK_INVARIANT(node.core().phase() == MembershipCore::Phase::member);
  while (!script.empty())
    step(node, script);
  return 0;
}
