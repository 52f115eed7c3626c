#include "cluster/area_format.h"

#include <cstring>

#include "base/aligned_buffer.h"
#include "base/random.h"
#include "cluster/settings.h"
#include "test/support/catch.h"

using namespace corral;
using namespace corral::cluster;

namespace {

Header sample_header() {
  Header header{.generation = 7,
                .settings = {.failure_timeout_ms = 2500,
                             .quorum = QuorumPolicy::majority,
                             .port = 99,
                             .fence = FencePolicy::agent,
                             .fence_agent = "fence_lamp",
                             .fence_agent_options = "ip={node}-bmc"}};
  header.acknowledged[3] = {Incarnation(0xFEED), 17};
  header.expelled = {"one", "two.example"};
  header.cluster[0] = 0xAB;
  header.secret[31] = 0xCD;
  return header;
}

ViewRecord sample_view() {
  ViewRecord view{
      .generation = 9, .view = {.number = ViewNumber(12), .members = {}}, .leader = NodeId(1), .expected_nodes = 3};
  view.view.members = {{NodeId(1), Incarnation(0x1111)}, {NodeId(63), Incarnation(0x2222)}};
  return view;
}

Slot sample_slot() {
  Slot slot{.id = NodeId(3),
            .state = SlotState::member,
            .incarnation = Incarnation(0xFEED),
            .key = 0x123456789ABCDEF0,
            .heartbeat = 17,
            .view = ViewNumber(12),
            .protocol_version = 1,
            .cycle_ms = 4,
            .health = 100,
            .fenced = FencedLife::earlier,
            .port = 7007,
            .name = "node-a.example"};
  slot.addresses = {Address{0xFE, 0x80}, Address{}};
  slot.addresses[1][15] = 1;
  slot.hears.set(0);
  slot.hears.set(9);
  slot.hears.set(63);
  return slot;
}

/// Every single flipped bit of what is used must be noticed.
template <class Decode>
void check_every_flip(AlignedBuffer& record, std::size_t bytes, Decode decode) {
  for (std::size_t bit = 0; bit < bytes * 8; ++bit) {
    record.span()[bit / 8] ^= std::byte{1} << (bit % 8);
    const auto result = decode(record.span());
    REQUIRE_FALSE(result);
    REQUIRE_FALSE(result.error().message().empty());
    record.span()[bit / 8] ^= std::byte{1} << (bit % 8);
  }
}

}  // namespace

TEST_CASE("records come back as they were written") {
  AlignedBuffer record(kRecordBytes);
  encode_header(sample_header(), record.span());
  CHECK(*decode_header(record.span()) == sample_header());
  encode_view(sample_view(), record.span());
  CHECK(*decode_view(record.span()) == sample_view());
  encode_slot(sample_slot(), record.span());
  CHECK(*decode_slot(record.span(), NodeId(3)) == sample_slot());
  const Slot free{.id = NodeId(5)};
  encode_slot(free, record.span());
  CHECK(*decode_slot(record.span(), NodeId(5)) == free);
}

TEST_CASE("the records' bytes are those of the specification") {
  AlignedBuffer record(kRecordBytes);
  auto byte = [&](std::size_t at) { return std::to_integer<int>(record.span()[at]); };
  encode_header(sample_header(), record.span());
  CHECK(std::memcmp(record.data(), "CORA\0\0\0\1\0\0\0\1", 12) == 0);
  CHECK((byte(23) == 7 && byte(24) == 0xAB && byte(40 + 31) == 0xCD));
  CHECK((byte(75) == 64 && byte(78) == 0x09 && byte(79) == 0xC4 && byte(83) == 1 && byte(85) == 99));
  CHECK((byte(86) == 1 && byte(87) == 10 && byte(89) == 13 && byte(91) == 16 && byte(95) == 0));
  CHECK(std::memcmp(record.data() + 96, "fence_lamp", 11) == 0);
  CHECK(std::memcmp(record.data() + 160, "ip={node}-bmc", 14) == 0);
  CHECK((byte(1024 + 16 * 3 + 6) == 0xFE && byte(1024 + 16 * 3 + 15) == 17));
  CHECK(std::memcmp(record.data() + 2048, "one\0two.example\0", 17) == 0);
  encode_view(sample_view(), record.span());
  CHECK((byte(7) == 2 && byte(47) == 12 && byte(51) == 1 && byte(55) == 3 && byte(59) == 2));
  CHECK((byte(67) == 1 && byte(78) == 0x11 && byte(83) == 63 && byte(95) == 0x22));
  encode_slot(sample_slot(), record.span());
  CHECK((byte(7) == 3 && byte(43) == 3 && byte(47) == 2 && byte(54) == 0xFE && byte(56) == 0x12 && byte(71) == 17));
  CHECK((byte(79) == 12 && byte(83) == 1 && byte(87) == 4 && byte(88) == 0x1B && byte(89) == 0x5F));
  CHECK((byte(90) == 100 && byte(91) == 2 && byte(92) == 14 && byte(96) == 0xFE && byte(127) == 1));
  CHECK(std::memcmp(record.data() + 160, "node-a.example", 15) == 0);
  CHECK((byte(224) == 1 && byte(225) == 2 && byte(231) == 0x80 && byte(232) == 0));
}

TEST_CASE("a flipped bit of a record is noticed, wherever it is") {
  AlignedBuffer record(kRecordBytes);
  encode_header(sample_header(), record.span());
  check_every_flip(record, kRecordBytes, decode_header);
  encode_view(sample_view(), record.span());
  check_every_flip(record, kRecordBytes, decode_view);
  encode_slot(sample_slot(), record.span());
  check_every_flip(record, kSlotRecordBytes, [](auto bytes) { return decode_slot(bytes, NodeId(3)); });
}

TEST_CASE("records with a right checksum and wrong contents are refused") {
  AlignedBuffer record(kRecordBytes);
  encode_slot(sample_slot(), record.span());
  CHECK(decode_slot(record.span(), NodeId(4)).error().message().find("carries number 3") != std::string::npos);
  CHECK_FALSE(decode_view(record.span()));
  ViewRecord view = sample_view();
  view.leader = NodeId(kSlots);
  encode_view(view, record.span());
  CHECK(decode_view(record.span()).error().kind() == ErrorKind::corrupt);
  view = sample_view();
  view.expected_nodes = 1;
  encode_view(view, record.span());
  CHECK_FALSE(decode_view(record.span()));
  Slot slot = sample_slot();
  slot.incarnation = {};
  encode_slot(slot, record.span());
  CHECK_FALSE(decode_slot(record.span(), NodeId(3)));
  slot = sample_slot();
  slot.fenced = static_cast<FencedLife>(3);
  encode_slot(slot, record.span());
  CHECK_FALSE(decode_slot(record.span(), NodeId(3)));
  slot = sample_slot();
  slot.name = "two words";
  encode_slot(slot, record.span());
  CHECK_FALSE(decode_slot(record.span(), NodeId(3)));
}

TEST_CASE("random bytes are no record") {
  Random random(1);
  AlignedBuffer record(kRecordBytes);
  for (int round = 0; round < 200; ++round) {
    for (std::byte& byte : record.span())
      byte = static_cast<std::byte>(random.next());
    CHECK_FALSE(decode_header(record.span()));
    CHECK_FALSE(decode_view(record.span()));
    CHECK_FALSE(decode_slot(record.span(), NodeId(0)));
  }
}

TEST_CASE("settings are named, shown and checked") {
  Settings settings;
  settings = *with_setting(settings, "failure-timeout", "1500ms");
  CHECK(settings.failure_timeout_ms == 1500);
  settings = *with_setting(settings, "failure-timeout", "20s");
  CHECK(settings.failure_timeout_ms == 20'000);
  CHECK(with_setting(settings, "failure-timeout", "7")->failure_timeout_ms == 7000);
  settings = *with_setting(settings, "quorum", "majority");
  settings = *with_setting(settings, "port", "65535");
  using Pairs = std::vector<std::pair<std::string, std::string>>;
  CHECK(describe_settings(settings) == Pairs{{"failure-timeout", "20s"},
                                             {"quorum", "majority"},
                                             {"port", "65535"},
                                             {"fence", "scsi-pr"},
                                             {"fence-agent-options", ""}});
  for (const auto& [name, value] : Pairs{{"failure-timeout", "999ms"},
                                         {"failure-timeout", "601s"},
                                         {"failure-timeout", "-1"},
                                         {"failure-timeout", ""},
                                         {"failure-timeout", "99999999999s"},
                                         {"quorum", "most"},
                                         {"port", "0"},
                                         {"port", "65536"},
                                         {"port", "x"},
                                         {"color", "red"}}) {
    INFO(name << " " << value);
    REQUIRE_FALSE(with_setting(settings, name, value));
    CHECK(with_setting(settings, name, value).error().code() == EINVAL);
  }
}

TEST_CASE("an area from before there were ways of fencing reads as the default one") {
  AlignedBuffer record(kRecordBytes);
  Header header = sample_header();
  header.settings.fence = FencePolicy::scsi_pr;
  header.settings.fence_agent.clear();
  header.settings.fence_agent_options.clear();
  header.acknowledged = {};
  header.expelled.clear();
  encode_header(header, record.span());
  // Nothing behind the port, as it was written then.
  for (std::size_t i = 86; i < kRecordBytes; ++i)
    REQUIRE(record.span()[i] == std::byte{0});
  CHECK(*decode_header(record.span()) == header);
}

TEST_CASE("an operator's word is about one life as it stands still") {
  const Header header = sample_header();
  Slot slot = sample_slot();
  CHECK(is_acknowledged(header, slot));
  ++slot.heartbeat;
  CHECK_FALSE(is_acknowledged(header, slot));
  slot = sample_slot();
  slot.incarnation = slot.incarnation + 1;
  CHECK_FALSE(is_acknowledged(header, slot));
  CHECK_FALSE(is_acknowledged(Header{}, Slot{.id = NodeId(3)}));
}

TEST_CASE("ways of fencing are set by their names, and nothing else is taken for one") {
  const auto fence = [](std::string_view value) { return with_setting({}, "fence", value); };
  CHECK(fence("manual")->fence == FencePolicy::manual);
  CHECK(fence("agent:fence_ipmilan")->fence_agent == "fence_ipmilan");
  CHECK(with_setting(*fence("agent:fence_ipmilan"), "fence", "scsi-pr") == Settings{});
  const std::vector<std::string> wrong{"",
                                       "none",
                                       "agent",
                                       "agent:",
                                       "agent:reboot",
                                       "agent:fence_a/b",
                                       "agent:../fence_a",
                                       "agent:/usr/sbin/fence_a",
                                       "agent:fence_a b",
                                       "agent:fence_" + std::string(64, 'a')};
  for (const std::string& value : wrong)
    CHECK(fence(value).error().code() == EINVAL);
  const auto options = [](std::string_view value) { return with_setting({}, "fence-agent-options", value); };
  CHECK(options("ip={node}-bmc login=a passwd_script=/etc/corral/bmc plug={node}"));
  CHECK(options(""));
  for (const std::string value :
       {"action=on", "plug=3", "port=3", "nodename=x", "passwd=secret", "password=secret", "word", "=x", "a=\nb"})
    CHECK(options(value).error().code() == EINVAL);
  CHECK_FALSE(options("a=" + std::string(kMostAgentOptionsBytes, 'x')));
}
