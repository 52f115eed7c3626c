// The input is a frame from a peer, which a lock manager in the middle of its life has to survive: first as it is, then
// with a header that fits, so that the messages reach the engine.
#include <algorithm>

#include "dlm/engine.h"
#include "test/fuzz/input.h"
#include "test/support/manual_clock.h"

using namespace corral;
using namespace corral::dlm;

namespace {

const Member kSelf{NodeId(0), Incarnation(1)};
const Member kPeer{NodeId(1), Incarnation(1)};

/// What the peer says of a view, so that the engine gets to its last step.
void run_through_recovery(Engine& engine) {
  engine.enter_view({ViewNumber(1), {kSelf, kPeer}, {}});
  engine.received({ViewNumber(1), kPeer, kSelf}, {Hello{}, PhaseDone{Phase::registered}, PhaseDone{Phase::reported}});
  CHECK_INVARIANT(engine.running());
}

/// Locks in every state: mastered here and there, granted, converting, waiting for an answer.
void take_locks(Engine& engine) {
  for (char c = 'a'; c <= 'h'; ++c) {
    const ResourceName name(LockspaceId(1), std::string_view(&c, 1));
    auto lock = engine.lock(name, c % 2 == 0 ? Mode::exclusive : Mode::protected_read, {});
    CHECK_INVARIANT(lock.has_value());
    auto second = engine.lock(name, Mode::null, {});
    CHECK_INVARIANT(second.has_value());
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::vector<std::byte> bytes(size);
  if (size > 0) std::memcpy(bytes.data(), data, size);
  (void)decode_frame(bytes);
  // The same with a sound header.
  FrameWriter writer({ViewNumber(1), kPeer, kSelf});
  std::vector<std::byte> whole = std::move(writer).take();
  if (size < 1 || size > kFrameBytesMax - kFrameHeaderBytes) return 0;
  const std::size_t total = kFrameHeaderBytes + size - 1;
  whole[6] = bytes[0];
  for (std::size_t i = 0; i < 4; ++i)
    whole[8 + i] = static_cast<std::byte>(total >> (8 * i));
  whole.insert(whole.end(), bytes.begin() + 1, bytes.end());
  auto frame = decode_frame(whole);
  if (!frame) return 0;
  ManualClock clock;
  Limits limits;
  limits.unused_resources = 2;
  Engine engine(kSelf, clock, limits);
  run_through_recovery(engine);
  take_locks(engine);
  engine.received(frame->header, frame->messages);
  // And in the middle of a recovery.
  engine.enter_view({ViewNumber(2), {kSelf, kPeer}, {kPeer}});
  frame->header.view = ViewNumber(2);
  engine.received(frame->header, std::move(frame->messages));
  fuzz::touch(engine.dump().text());
  return 0;
}
