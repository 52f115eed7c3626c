#include "dlm/message.h"

#include <array>
#include <utility>

#include "base/check.h"

namespace corral::dlm {

namespace {

/// Appends fields, little-endian.
class Encoder {
 public:
  explicit Encoder(std::vector<std::byte>& bytes) : bytes_(bytes) {}

  template <class... Field>
  void operator()(const Field&... field) {
    (put(field), ...);
  }

 private:
  template <class Integer>
    requires std::is_integral_v<Integer>
  void put(Integer value) {
    for (std::size_t i = 0; i < sizeof(Integer); ++i)
      bytes_.push_back(static_cast<std::byte>(static_cast<std::uint64_t>(value) >> (8 * i)));
  }
  template <class Enum>
    requires std::is_enum_v<Enum>
  void put(Enum value) {
    put(std::to_underlying(value));
  }
  template <class Tag, class Integer>
  void put(Strong<Tag, Integer> value) {
    put(value.value);
  }
  void put(LockFlags flags) { put(flags.bits()); }
  void put(const Member& member) { (*this)(member.node, member.incarnation); }
  void put(const ResourceName& name) {
    (*this)(name.lockspace(), static_cast<std::uint8_t>(name.bytes().size()));
    for (char c : name.bytes())
      put(static_cast<std::uint8_t>(c));
  }
  void put(const LockValue& value) {
    (*this)(value.sequence, value.valid);
    bytes_.insert(bytes_.end(), value.bytes.begin(), value.bytes.end());
  }
  void put(const HeldRange& held) {
    (*this)(held.owner.node, held.owner.kind, held.owner.id, held.process, held.mode, held.range.first,
            held.range.last);
  }

  std::vector<std::byte>& bytes_;
};

/// Takes fields; after the first that is missing or out of range all are left as they are, and failed() is why.
class Decoder {
 public:
  explicit Decoder(std::span<const std::byte> bytes) : bytes_(bytes) {}
  std::string_view failed() const { return failed_; }
  bool at_end() const { return bytes_.empty(); }

  template <class... Field>
  void operator()(Field&... field) {
    (get(field), ...);
  }

 private:
  void fail(std::string_view why) {
    if (failed_.empty()) failed_ = why;
  }
  template <class Integer>
    requires(std::is_integral_v<Integer> && !std::is_same_v<Integer, bool>)
  void get(Integer& value) {
    if (bytes_.size() < sizeof(Integer)) fail("is cut short");
    if (!failed_.empty()) return;
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i < sizeof(Integer); ++i)
      sum |= static_cast<std::uint64_t>(bytes_[i]) << (8 * i);
    value = static_cast<Integer>(sum);
    bytes_ = bytes_.subspan(sizeof(Integer));
  }
  /// A byte below `bound`.
  std::uint8_t get_below(std::uint8_t bound, std::string_view otherwise) {
    std::uint8_t value = 0;
    get(value);
    if (value >= bound) fail(otherwise);
    return failed_.empty() ? value : 0;
  }
  void get(bool& value) { value = get_below(2, "has a flag that is neither 0 nor 1") != 0; }
  void get(Mode& mode) { mode = static_cast<Mode>(get_below(kModes, "has an unknown mode")); }
  void get(ReplyCode& code) { code = static_cast<ReplyCode>(get_below(kReplyCodes, "has an unknown reply code")); }
  void get(RangeCode& code) { code = static_cast<RangeCode>(get_below(kRangeCodes, "has an unknown reply code")); }
  void get(RangeMode& mode) { mode = static_cast<RangeMode>(get_below(3, "has an unknown range mode")); }
  void get(RangeOwnerKind& kind) { kind = static_cast<RangeOwnerKind>(get_below(2, "has an unknown kind of owner")); }
  void get(RangeAction& action) { action = static_cast<RangeAction>(get_below(3, "has an unknown range action")); }
  void get(Phase& phase) { phase = static_cast<Phase>(get_below(kPhases, "has an unknown phase")); }
  void get(LockFlags& flags) {
    std::uint16_t bits = 0;
    get(bits);
    flags = LockFlags::from_bits(bits);
    if (flags.bits() != bits) fail("has unknown flags");
  }
  template <class Tag, class Integer>
  void get(Strong<Tag, Integer>& value) {
    get(value.value);
  }
  void get(NodeId& node) {
    get(node.value);
    if (node.value >= kNodesMax) {
      fail("has a node's number that is too high");
      node = NodeId{};
    }
  }
  void get(Member& member) { (*this)(member.node, member.incarnation); }
  void get(ResourceName& name) {
    LockspaceId lockspace;
    std::uint8_t length = 0;
    (*this)(lockspace, length);
    if (failed_.empty() && !ResourceName::valid_length(length)) fail("has a name of a wrong length");
    if (failed_.empty() && bytes_.size() < length) fail("is cut short");
    if (!failed_.empty()) return;
    name = ResourceName(lockspace, {reinterpret_cast<const char*>(bytes_.data()), length});
    bytes_ = bytes_.subspan(length);
  }
  void get(LockValue& value) {
    (*this)(value.sequence, value.valid);
    if (bytes_.size() < kLockValueBytes) fail("is cut short");
    if (!failed_.empty()) return;
    std::memcpy(value.bytes.data(), bytes_.data(), kLockValueBytes);
    bytes_ = bytes_.subspan(kLockValueBytes);
  }
  void get(HeldRange& held) {
    (*this)(held.owner.node, held.owner.kind, held.owner.id, held.process, held.mode, held.range.first,
            held.range.last);
    if (held.range.first > held.range.last || held.range.last > kRangeEnd) fail("has a range that is none");
  }

  std::span<const std::byte> bytes_;
  std::string_view failed_;
};

template <std::size_t... I>
Message make_alternative(std::size_t alternative, std::index_sequence<I...>) {
  Message message;
  ((I == alternative ? static_cast<void>(message.emplace<I>()) : static_cast<void>(0)), ...);
  return message;
}
constexpr std::size_t kMessageTypes = std::variant_size_v<Message>;
constexpr std::array<std::string_view, kMessageTypes> kNames = {
    "Request",      "Convert",   "Unlock",       "Cancel",      "Reply",      "Blocking",
    "YouAreMaster", "Forget",    "Hello",        "Register",    "FindMaster", "MasterIs",
    "Report",       "PhaseDone", "RangeRequest", "RangeCancel", "RangeReply", "RangeReport"};

void put_at(std::vector<std::byte>& bytes, std::size_t offset, std::uint64_t value, std::size_t size) {
  for (std::size_t i = 0; i < size; ++i)
    bytes[offset + i] = static_cast<std::byte>(value >> (8 * i));
}

constexpr std::size_t kCountOffset = 6;
constexpr std::size_t kFrameBytesOffset = 8;

}  // namespace

std::string_view message_name(const Message& message) {
  return kNames[message.index()];
}

FrameWriter::FrameWriter(FrameHeader header) : header_(header) {
  Encoder encode(bytes_);
  encode(kFrameMagic, kProtocolVersion, count_, static_cast<std::uint32_t>(kFrameHeaderBytes), std::uint32_t{0},
         header.view, header.from.node, header.to.node, header.from.incarnation, header.to.incarnation);
  CHECK_INVARIANT(bytes_.size() == kFrameHeaderBytes);
}

bool FrameWriter::add(const Message& message) {
  const std::size_t start = bytes_.size();
  Encoder encode(bytes_);
  encode(static_cast<std::uint8_t>(message.index() + 1), std::uint8_t{0}, std::uint16_t{0});
  // fields() is not const because the decoder fills the same list.
  std::visit([&encode](auto body) { body.fields(encode); }, message);
  if (bytes_.size() > kFrameBytesMax || count_ == UINT16_MAX) {
    CHECK_INVARIANT(count_ > 0);
    bytes_.resize(start);
    return false;
  }
  put_at(bytes_, start + 2, bytes_.size() - start, 2);
  put_at(bytes_, kCountOffset, ++count_, 2);
  put_at(bytes_, kFrameBytesOffset, bytes_.size(), 4);
  return true;
}

std::vector<std::byte> FrameWriter::take() && {
  return std::move(bytes_);
}

namespace {

/// Reads the message at the front of `rest` and moves past it.
Result<Message> decode_message(std::span<const std::byte>& rest, std::size_t number) {
  std::uint8_t type = 0;
  std::uint8_t reserved = 0;
  std::uint16_t length = 0;
  Decoder head(rest);
  head(type, reserved, length);
  if (!head.failed().empty()) return fail(EPROTO, "lock message {} {}", number, head.failed());
  if (type < 1 || type > kMessageTypes) return fail(EPROTO, "lock message {} has the unknown type {}", number, type);
  if (reserved != 0 || length < kMessageHeaderBytes || length > rest.size())
    return fail(EPROTO, "lock message {} ({}) has a wrong header", number, kNames[type - 1u]);
  Decoder body(rest.subspan(kMessageHeaderBytes, length - kMessageHeaderBytes));
  Message message = make_alternative(type - 1u, std::make_index_sequence<kMessageTypes>());
  std::visit([&body](auto& fields) { fields.fields(body); }, message);
  if (!body.failed().empty()) return fail(EPROTO, "lock message {} ({}) {}", number, kNames[type - 1u], body.failed());
  if (!body.at_end()) return fail(EPROTO, "lock message {} ({}) is too long", number, kNames[type - 1u]);
  rest = rest.subspan(length);
  return message;
}

}  // namespace

Result<Frame> decode_frame(std::span<const std::byte> bytes) {
  Frame frame;
  std::uint32_t magic = 0;
  std::uint16_t version = 0;
  std::uint16_t count = 0;
  std::uint32_t frame_bytes = 0;
  std::uint32_t reserved = 0;
  Decoder decode(bytes);
  decode(magic, version, count, frame_bytes, reserved, frame.header.view, frame.header.from.node, frame.header.to.node,
         frame.header.from.incarnation, frame.header.to.incarnation);
  if (!decode.failed().empty()) return fail(EPROTO, "lock frame of {} bytes {}", bytes.size(), decode.failed());
  if (magic != kFrameMagic) return fail(EPROTO, "lock frame has the magic number {:#010x}", magic);
  if (version != kProtocolVersion)
    return fail(EPROTO, "lock frame has protocol version {}, this node speaks {}", version, kProtocolVersion);
  if (frame_bytes != bytes.size() || frame_bytes > kFrameBytesMax || reserved != 0)
    return fail(EPROTO, "lock frame of {} bytes says it has {}", bytes.size(), frame_bytes);
  std::span<const std::byte> rest = bytes.subspan(kFrameHeaderBytes);
  for (std::size_t number = 0; number < count; ++number) {
    TRY(Message message, decode_message(rest, number));
    frame.messages.push_back(message);
  }
  if (!rest.empty()) return fail(EPROTO, "lock frame has {} bytes after its last message", rest.size());
  return frame;
}

}  // namespace corral::dlm
