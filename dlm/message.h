/// What lock managers say to each other, and its bytes on the wire: docs/SPEC.md, "Lock manager messages".
///
/// Every message is a struct whose fields() lists what is sent, in order. A frame holds messages of one view from one
/// life of a node to one life of another.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <variant>
#include <vector>

#include "base/result.h"
#include "dlm/range.h"
#include "dlm/types.h"

namespace corral::dlm {

/// A new lock. Owner to master, or to the directory, which sends it on to the master; a node that is not the master
/// sends it to the directory.
struct Request {
  Member owner;
  LockId lock;
  Mode mode = Mode::null;
  LockFlags flags;
  std::uint8_t hops = 0;
  ResourceName name;
  void fields(auto& f) { f(owner, lock, mode, flags, hops, name); }
};

/// Owner to master: another mode for a granted lock. The value is written where `value_written` says so.
struct Convert {
  LockId lock;
  Mode mode = Mode::null;
  LockFlags flags;
  bool value_written = false;
  LockValue value;
  void fields(auto& f) { f(lock, mode, flags, value_written, value); }
};

/// Owner to master: the lock goes. Answered with `unlocked` also where it is gone already.
struct Unlock {
  LockId lock;
  bool value_written = false;
  LockValue value;
  void fields(auto& f) { f(lock, value_written, value); }
};

/// Owner to master: give up the request or conversion that waits. Answered with `cancelled`, or not at all if the
/// operation was answered before.
struct Cancel {
  LockId lock;
  void fields(auto& f) { f(lock); }
};

enum class ReplyCode : std::uint8_t {
  granted = 0,
  queued = 1,       ///< waits; another reply will follow
  would_block = 2,  ///< no_queue
  deadlock = 3,     ///< a conversion that could never be granted; the lock keeps its mode
  cancelled = 4,
  unlocked = 5,
  no_room = 6,  ///< the master's limit of locks on a resource
};
inline constexpr std::uint8_t kReplyCodes = 7;

/// Master to owner: what became of an operation. `mode` is the mode now granted (NL where nothing is).
struct Reply {
  LockId lock;
  ReplyCode code = ReplyCode::granted;
  Mode mode = Mode::null;
  bool demoted = false;  ///< the conversion lost its former mode on the way
  LockValue value;
  void fields(auto& f) { f(lock, code, mode, demoted, value); }
};

/// Master to owner: somebody waits for `mode`, with which the lock is in the way.
struct Blocking {
  LockId lock;
  Mode mode = Mode::null;
  void fields(auto& f) { f(lock, mode); }
};

/// Directory to owner: the resource has no master; it is yours now. Answers the request for `lock`.
struct YouAreMaster {
  LockId lock;
  ResourceName name;
  void fields(auto& f) { f(lock, name); }
};

/// Master to directory: the resource has no locks and is forgotten.
struct Forget {
  ResourceName name;
  void fields(auto& f) { f(name); }
};

/// First message of a view to every member: "I have stopped and dropped the dead".
struct Hello {
  void fields(auto&) {}
};

/// Master to directory, after a change of view.
struct Register {
  ResourceName name;
  void fields(auto& f) { f(name); }
};

/// Holder to directory, after a change of view: who masters this, now that its master is gone? Me, if nobody does.
struct FindMaster {
  ResourceName name;
  void fields(auto& f) { f(name); }
};
struct MasterIs {
  Member master;
  ResourceName name;
  void fields(auto& f) { f(master, name); }
};

/// Holder to master, after a change of view: I have this lock. The mode is the weakest that the owner may have. With
/// `leaving` it was unlocked, which the master may have done already: only the value counts.
struct Report {
  LockId lock;
  Mode mode = Mode::null;
  bool leaving = false;
  LockValue value;
  ResourceName name;
  void fields(auto& f) { f(lock, mode, leaving, value, name); }
};

/// To every member: all that this phase of a recovery needs from me was sent before.
enum class Phase : std::uint8_t { registered = 0, reported = 1 };
inline constexpr std::uint8_t kPhases = 2;
struct PhaseDone {
  Phase phase = Phase::registered;
  void fields(auto& f) { f(phase); }
};

/// Owner to master of the file's resource: lock, unlock (mode `unlocked`) or test a range.
enum class RangeAction : std::uint8_t { set = 0, set_or_wait = 1, test = 2 };
struct RangeRequest {
  std::uint64_t operation = 0;
  RangeAction action = RangeAction::set;
  HeldRange wanted;
  ResourceName name;
  void fields(auto& f) { f(operation, action, wanted, name); }
};
struct RangeCancel {
  std::uint64_t operation = 0;
  ResourceName name;
  void fields(auto& f) { f(operation, name); }
};
enum class RangeCode : std::uint8_t { done = 0, queued = 1, conflict = 2, cancelled = 3, no_room = 4 };
inline constexpr std::uint8_t kRangeCodes = 5;
/// Master to owner. With `conflict` the lock in the way.
struct RangeReply {
  std::uint64_t operation = 0;
  RangeCode code = RangeCode::done;
  HeldRange conflict;
  void fields(auto& f) { f(operation, code, conflict); }
};
/// Holder to master, after a change of view.
struct RangeReport {
  HeldRange held;
  ResourceName name;
  void fields(auto& f) { f(held, name); }
};

/// In the order of their numbers on the wire, from 1.
using Message =
    std::variant<Request, Convert, Unlock, Cancel, Reply, Blocking, YouAreMaster, Forget, Hello, Register, FindMaster,
                 MasterIs, Report, PhaseDone, RangeRequest, RangeCancel, RangeReply, RangeReport>;
/// "Request", "Convert", ...
std::string_view message_name(const Message& message);

inline constexpr std::uint32_t kFrameMagic = 0x4D4C4443;  // "CDLM" in memory
inline constexpr std::uint16_t kProtocolVersion = 2;
inline constexpr std::size_t kFrameHeaderBytes = 48;
inline constexpr std::size_t kMessageHeaderBytes = 4;

/// What all messages of a frame have in common.
struct FrameHeader {
  ViewNumber view;
  Member from;
  Member to;
  bool operator==(const FrameHeader&) const = default;
};

/// Messages on their way to one peer; bytes() is a whole frame at any time.
class FrameWriter {
 public:
  explicit FrameWriter(FrameHeader header);
  const FrameHeader& header() const { return header_; }
  /// False, and nothing added, if the frame would exceed kFrameBytesMax.
  bool add(const Message& message);
  std::vector<std::byte> take() &&;

 private:
  FrameHeader header_;
  std::uint16_t count_ = 0;
  std::vector<std::byte> bytes_;
};

struct Frame {
  FrameHeader header;
  std::vector<Message> messages;
};
/// EPROTO with what is wrong with the bytes and where; nothing of a frame is used unless all of it is sound.
Result<Frame> decode_frame(std::span<const std::byte> bytes);

}  // namespace corral::dlm
