// Messages on the wire: what goes out comes in, and nothing else does.
#include "dlm/message.h"

#include "base/random.h"
#include "test/support/catch.h"

using namespace corral;
using namespace corral::dlm;

namespace {

const Member kFrom{NodeId(3), Incarnation(77)};
const Member kTo{NodeId(5), Incarnation(9)};
const FrameHeader kHeader{ViewNumber(42), kFrom, kTo};

/// One of every kind, with no field left at its default.
std::vector<Message> one_of_each() {
  const ResourceName name(LockspaceId(2), "a name");
  LockValue value;
  value.bytes.fill(std::byte{0x5A});
  value.sequence = 12;
  value.valid = false;
  const HeldRange held{{kFrom, RangeOwnerKind::flock, 99}, 1234, RangeMode::write, {5, 700}};
  return {Request{kFrom, LockId(8), Mode::exclusive, LockFlags::from_bits(0x1A5), 3, name},
          Convert{LockId(8), Mode::protected_read, LockFlags::from_bits(0x5A), true, value},
          Unlock{LockId(9), true, value},
          Cancel{LockId(10)},
          Reply{LockId(11), ReplyCode::no_room, Mode::concurrent_write, true, value},
          Blocking{LockId(12), Mode::protected_write},
          YouAreMaster{LockId(13), name},
          Forget{name},
          Hello{},
          Register{name},
          FindMaster{name},
          MasterIs{kTo, name},
          Report{LockId(14), Mode::concurrent_read, true, value, name},
          PhaseDone{Phase::reported},
          RangeRequest{15, RangeAction::test, held, name},
          RangeCancel{16, name},
          RangeReply{17, RangeCode::no_room, held},
          RangeReport{held, name}};
}

std::vector<std::byte> frame_of(const std::vector<Message>& messages) {
  FrameWriter writer(kHeader);
  for (const Message& message : messages)
    REQUIRE(writer.add(message));
  return std::move(writer).take();
}

}  // namespace

TEST_CASE("every kind of message survives the wire") {
  const auto messages = one_of_each();
  REQUIRE(messages.size() == std::variant_size_v<Message>);
  const auto bytes = frame_of(messages);
  auto frame = decode_frame(bytes);
  REQUIRE(frame.has_value());
  CHECK(frame->header == kHeader);
  REQUIRE(frame->messages.size() == messages.size());
  for (std::size_t i = 0; i < messages.size(); ++i)
    CHECK(frame->messages[i].index() == i);
  // The bytes of what was read are the bytes that were written: no field is lost.
  CHECK(frame_of(frame->messages) == bytes);
}

TEST_CASE("the bytes are those of the specification") {
  const auto bytes = frame_of({Cancel{LockId(0x0102030405060708)}});
  const std::uint8_t expected[] = {'C', 'D', 'L', 'M', 2,    0,    1,    0,    60, 0, 0, 0, 0, 0, 0, 0,  //
                                   42,  0,   0,   0,   0,    0,    0,    0,    3,  0, 0, 0, 5, 0, 0, 0,  //
                                   77,  0,   0,   0,   0,    0,    0,    0,    9,  0, 0, 0, 0, 0, 0, 0,  //
                                   4,   0,   12,  0,   0x08, 0x07, 0x06, 0x05, 4,  3, 2, 1};
  REQUIRE(bytes.size() == sizeof(expected));
  CHECK(std::memcmp(bytes.data(), expected, sizeof(expected)) == 0);
}

TEST_CASE("a frame that is cut, or a byte of which changed, is refused or means something valid") {
  const auto bytes = frame_of(one_of_each());
  for (std::size_t length = 0; length < bytes.size(); ++length) {
    auto frame = decode_frame(std::span(bytes).first(length));
    REQUIRE(!frame.has_value());
    CHECK(frame.error().code() == EPROTO);
    CHECK(!frame.error().message().empty());
  }
  std::size_t refused = 0;
  for (std::size_t at = 0; at < bytes.size(); ++at) {
    for (unsigned bit = 0; bit < 8; ++bit) {
      auto changed = bytes;
      changed[at] ^= static_cast<std::byte>(1u << bit);
      auto frame = decode_frame(changed);
      if (!frame) {
        ++refused;
      } else {
        // What is accepted is exactly what would be sent.
        FrameWriter writer(frame->header);
        for (const Message& message : frame->messages)
          REQUIRE(writer.add(message));
        REQUIRE(std::move(writer).take() == changed);
      }
    }
  }
  CHECK(refused > 500);
}

TEST_CASE("a frame takes what fits and says when it is full") {
  FrameWriter writer(kHeader);
  const Message message = Register{ResourceName(LockspaceId(1), std::string(kResourceNameBytesMax, 'x'))};
  std::size_t added = 0;
  while (writer.add(message))
    ++added;
  const auto bytes = std::move(writer).take();
  CHECK(bytes.size() <= kFrameBytesMax);
  CHECK(bytes.size() > kFrameBytesMax - 100);
  auto frame = decode_frame(bytes);
  REQUIRE(frame.has_value());
  CHECK(frame->messages.size() == added);
}

TEST_CASE("names are spread evenly and print readably") {
  std::size_t counts[8] = {};
  for (int i = 0; i < 80'000; ++i)
    ++counts[(ResourceName(LockspaceId(1), fmt::format("2 {:x}", 132'000 + i)).hash() >> 32) * 8 >> 32];
  for (std::size_t count : counts)
    CHECK((count > 9'000 && count < 11'000));
  CHECK(ResourceName(LockspaceId(2), std::string_view("a\0\\b", 4)).describe() == "2:a\\x00\\x5cb");
}
