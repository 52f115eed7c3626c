/// The kernel's end of a mount: /dev/fuse, which gives one request per read and takes one answer per write.
///
/// Used on the loop's thread alone. Nothing here blocks: the descriptor is non-blocking, and an answer is taken at
/// once.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <sys/uio.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/file_descriptor.h"
#include "base/latency_histogram.h"
#include "base/log.h"
#include "fuse/protocol.h"

namespace corral {

/// Buffers of one size for the largest payloads, kept for reuse because fresh memory costs page faults.
class LargeBuffers {
 public:
  /// Returns its memory when destroyed; the pool outlives it.
  struct GiveBack {
    LargeBuffers* pool = nullptr;
    void operator()(std::byte* memory) const;
  };
  using Buffer = std::unique_ptr<std::byte, GiveBack>;

  explicit LargeBuffers(std::size_t bytes) : bytes_(bytes) {}
  ~LargeBuffers();
  LargeBuffers(const LargeBuffers&) = delete;
  LargeBuffers& operator=(const LargeBuffers&) = delete;

  std::size_t bytes() const { return bytes_; }
  /// `bytes()` of undefined contents, aligned to AlignedBuffer::kAlignment.
  Buffer take();
  /// The same guarantees for any size; small sizes do not touch the pool.
  Buffer take(std::size_t bytes);

 private:
  static constexpr std::size_t kKept = 8;
  std::size_t bytes_;
  std::vector<std::byte*> free_;
};

/// A request's bytes, owned. The payload of a WRITE is aligned to AlignedBuffer::kAlignment, so that whole blocks go to
/// the device without a copy.
class Message {
 public:
  Message(LargeBuffers::Buffer memory, std::span<const std::byte> bytes) : memory_(std::move(memory)), bytes_(bytes) {}

  const fuse_in_header& header() const { return *reinterpret_cast<const fuse_in_header*>(bytes_.data()); }
  /// What follows the header.
  std::span<const std::byte> arguments() const { return bytes_.subspan(sizeof(fuse_in_header)); }

 private:
  LargeBuffers::Buffer memory_;
  std::span<const std::byte> bytes_;
};

class Channel {
 public:
  /// `descriptor`: /dev/fuse, or a SOCK_SEQPACKET socket in tests.
  Channel(FileDescriptor descriptor, std::uint32_t max_write_bytes, Logger log);

  int descriptor() const { return descriptor_->get(); }
  std::uint32_t max_write_bytes() const { return max_write_bytes_; }
  LargeBuffers& buffers() { return buffers_; }

  enum class Received {
    message,
    nothing,  ///< none is waiting
    ended,    ///< unmounted or aborted: there will be none
  };
  Received receive(std::optional<Message>& message);

  /// Answers request `unique`: an errno value (0: success) and, with success, the parts in order. What the kernel gave
  /// up waiting for is dropped silently.
  void answer(std::uint64_t unique, int error, std::span<const iovec> parts = {});

  /// What is to be done with an answer of success.
  enum class Verdict {
    give,
    hold,    ///< it waits for settle_held()
    refuse,  ///< EIO takes its place
  };
  /// Asked before each answer of success but those of Request::regardless(); none: all are given.
  std::function<Verdict()> judge;
  /// An answer has been held; told after that.
  std::function<void()> on_held;
  /// Gives all that were held, as they were, or the error in their place.
  void settle_held(int error);

  /// Tells the kernel to ask for the node's attributes again. Waits for nothing in the kernel. False if the kernel does
  /// not know the node (any more, or yet).
  bool invalidate_attributes(std::uint64_t node);
  /// Makes the kernel ask again for every name of the mount when it is next used. Waits for nothing. Linux 6.16.
  void invalidate_names();

  /// Notifications that may wait in the kernel for other requests' answers: for helper threads. Keeps the kernel's end
  /// open for as long as it lives.
  class Notifier {
   public:
    explicit Notifier(std::shared_ptr<const FileDescriptor> descriptor) : descriptor_(std::move(descriptor)) {}
    /// Drops cached pages of the node that overlap the bytes from `offset` on (length 0: to the end). Writes dirty ones
    /// first. Waits for pages that a READ, or a WRITE of part of a page, has locked.
    void invalidate_data(std::uint64_t node, std::uint64_t offset, std::uint64_t length) const;
    /// Lets go of the node if nobody uses it. Linux 6.18.
    void prune(std::uint64_t node) const;

   private:
    std::shared_ptr<const FileDescriptor> descriptor_;
  };
  /// Not after close().
  Notifier notifier() const { return Notifier(descriptor_); }

  /// Lets go of the kernel: users of a mount that still exists get errors.
  void close() { descriptor_.reset(); }
  bool closed() const { return descriptor_ == nullptr; }

 private:
  struct HeldAnswer {
    std::uint64_t unique;
    std::vector<std::byte> bytes;
  };
  friend class Request;
  Message take_message(std::size_t length);
  void send_answer(std::uint64_t unique, int error, std::span<const iovec> parts);

  std::shared_ptr<FileDescriptor> descriptor_;
  std::uint32_t max_write_bytes_;
  Logger log_;
  LargeBuffers buffers_;
  LargeBuffers::Buffer receiving_;
  std::vector<HeldAnswer> held_;
};

/// How long requests took, by opcode.
struct RequestLatencies {
  explicit RequestLatencies(const Clock& time) : clock(time) {}
  void add(std::uint32_t opcode, Time begun) {
    if (opcode < of.size()) of[opcode].add(clock.now() - begun);
  }
  const Clock& clock;
  std::array<LatencyHistogram, protocol::kOpcodes> of;
};

/// A request that wants an answer: gives exactly one, EIO if it is destroyed without (its coroutine was torn down), so
/// that nobody in the kernel waits for ever.
class Request {
 public:
  /// How long it took to its answer goes to `latencies`, which outlive it.
  Request(Channel& channel, Message message, RequestLatencies& latencies)
      : channel_(&channel), message_(std::move(message)), latencies_(&latencies), begun_(latencies.clock.now()) {}
  Request(Request&& other) noexcept
      : channel_(std::exchange(other.channel_, nullptr)),
        regardless_(other.regardless_),
        message_(std::move(other.message_)),
        latencies_(other.latencies_),
        begun_(other.begun_) {}
  Request& operator=(Request&&) = delete;
  ~Request() {
    if (channel_ != nullptr) fail(EIO);
  }

  const Message& message() const { return message_; }
  const fuse_in_header& header() const { return message_.header(); }
  std::span<const std::byte> arguments() const { return message_.arguments(); }
  /// The fixed arguments; the dispatcher has checked that they are there.
  template <class T>
  const T& fixed() const {
    CHECK_INVARIANT(arguments().size() >= sizeof(T));
    return *reinterpret_cast<const T*>(arguments().data());
  }
  /// The zero-terminated string that begins at `offset` of the arguments; checked like fixed().
  std::string_view name(std::size_t offset) const;
  /// The arguments behind `offset`.
  std::span<const std::byte> rest(std::size_t offset) const {
    CHECK_INVARIANT(arguments().size() >= offset);
    return arguments().subspan(offset);
  }

  /// The answer does not depend on what this node holds: it is given in any case.
  void regardless() { regardless_ = true; }
  void fail(int error) { answer(error, {}); }
  void succeed() { answer(0, {}); }
  void succeed_with_bytes(std::span<const std::byte> bytes) {
    iovec part{const_cast<std::byte*>(bytes.data()), bytes.size()};
    answer(0, {&part, 1});
  }
  /// With structures of the protocol, in order.
  template <class... T>
  void succeed_with(const T&... structures) {
    static_assert((std::is_trivially_copyable_v<T> && ...));
    iovec parts[] = {{const_cast<T*>(&structures), sizeof(T)}...};
    answer(0, parts);
  }
  template <class T>
  void succeed_with_head(const T& head, std::span<const std::byte> bytes) {
    iovec parts[] = {{const_cast<T*>(&head), sizeof(T)}, {const_cast<std::byte*>(bytes.data()), bytes.size()}};
    answer(0, parts);
  }

 private:
  void answer(int error, std::span<const iovec> parts) {
    CHECK_INVARIANT(channel_ != nullptr);
    latencies_->add(header().opcode, begun_);
    Channel& channel = *std::exchange(channel_, nullptr);
    if (regardless_)
      channel.send_answer(header().unique, error, parts);
    else
      channel.answer(header().unique, error, parts);
  }
  Channel* channel_;
  bool regardless_ = false;
  Message message_;
  RequestLatencies* latencies_;
  Time begun_;
};

}  // namespace corral
