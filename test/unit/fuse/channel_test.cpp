#include "fuse/channel.h"

#include <cerrno>
#include <cstring>
#include <string>
#include <vector>

#include <sys/socket.h>

#include "base/aligned_buffer.h"
#include "test/support/catch.h"

namespace corral {
namespace {

constexpr std::uint32_t kMaxWrite = 1 << 20;

/// A channel and the kernel's end of it.
struct Pair {
  Pair() {
    int ends[2];
    REQUIRE(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0);
    int bytes = 4 << 20;
    for (int end : ends)
      REQUIRE(setsockopt(end, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(bytes)) == 0);
    kernel = FileDescriptor(ends[0]);
    channel.emplace(FileDescriptor(ends[1]), kMaxWrite, Logger(log));
  }

  SystemClock clock;
  RequestLatencies latencies{clock};

  void send(std::uint32_t opcode, std::span<const std::byte> arguments) {
    fuse_in_header header{};
    header.len = static_cast<std::uint32_t>(sizeof(header) + arguments.size());
    header.opcode = opcode;
    header.unique = 42;
    header.nodeid = 7;
    iovec parts[] = {{&header, sizeof(header)}, {const_cast<std::byte*>(arguments.data()), arguments.size()}};
    REQUIRE(writev(kernel.get(), parts, 2) == static_cast<ssize_t>(header.len));
  }

  Message receive() {
    std::optional<Message> message;
    REQUIRE(channel->receive(message) == Channel::Received::message);
    return *std::move(message);
  }

  struct Answer {
    fuse_out_header header;
    std::vector<std::byte> body;
  };
  Answer answer() {
    std::vector<std::byte> bytes(2 << 20);
    ssize_t length = read(kernel.get(), bytes.data(), bytes.size());
    REQUIRE(length >= static_cast<ssize_t>(sizeof(fuse_out_header)));
    Answer answer;
    std::memcpy(&answer.header, bytes.data(), sizeof(answer.header));
    answer.body.assign(bytes.begin() + sizeof(answer.header), bytes.begin() + length);
    CHECK(answer.header.len == length);
    return answer;
  }

  NullLogSink log;
  FileDescriptor kernel;
  std::optional<Channel> channel;
};

std::vector<std::byte> write_arguments(std::size_t payload) {
  std::vector<std::byte> bytes(sizeof(fuse_write_in) + payload);
  for (std::size_t i = 0; i < payload; ++i)
    bytes[sizeof(fuse_write_in) + i] = static_cast<std::byte>(i * 7);
  return bytes;
}

bool nothing_answered(Pair& pair) {
  std::byte byte{};
  return recv(pair.kernel.get(), &byte, 1, MSG_PEEK) < 0 && errno == EAGAIN;
}

TEST_CASE("an answer that must wait is held and given later as it was, or as an error") {
  Pair pair;
  Channel::Verdict verdict = Channel::Verdict::hold;
  int told = 0;
  pair.channel->judge = [&] { return verdict; };
  pair.channel->on_held = [&] { ++told; };
  const auto ask = [&pair] {
    pair.send(FUSE_GETATTR, {});
    return Request(*pair.channel, pair.receive(), pair.latencies);
  };
  const std::string text = "as it was";
  ask().succeed_with_head(fuse_ioctl_out{}, std::as_bytes(std::span(text)));
  ask().succeed();
  CHECK(told == 2);
  CHECK(nothing_answered(pair));

  SECTION("given") {
    pair.channel->settle_held(0);
    Pair::Answer first = pair.answer();
    CHECK(first.header.error == 0);
    REQUIRE(first.body.size() == sizeof(fuse_ioctl_out) + text.size());
    CHECK(std::memcmp(first.body.data() + sizeof(fuse_ioctl_out), text.data(), text.size()) == 0);
    CHECK(pair.answer().body.empty());
  }
  SECTION("refused") {
    pair.channel->settle_held(EIO);
    for (int i = 0; i < 2; ++i) {
      Pair::Answer answer = pair.answer();
      CHECK(answer.header.error == -EIO);
      CHECK(answer.body.empty());
    }
  }
  pair.channel->settle_held(0);
  CHECK(nothing_answered(pair));
}

TEST_CASE("errors, and what depends on nothing, are answered at once; nothing else where answers are refused") {
  Pair pair;
  Channel::Verdict verdict = Channel::Verdict::hold;
  pair.channel->judge = [&] { return verdict; };
  const auto ask = [&pair] {
    pair.send(FUSE_GETATTR, {});
    return Request(*pair.channel, pair.receive(), pair.latencies);
  };
  ask().fail(ENOENT);
  CHECK(pair.answer().header.error == -ENOENT);
  Request regardless = ask();
  regardless.regardless();
  regardless.succeed();
  CHECK(pair.answer().header.error == 0);
  verdict = Channel::Verdict::refuse;
  ask().succeed();
  CHECK(pair.answer().header.error == -EIO);
}

TEST_CASE("a request arrives as it was sent") {
  Pair pair;
  const char name[] = "some name";
  pair.send(FUSE_LOOKUP, std::as_bytes(std::span(name)));
  Request request(*pair.channel, pair.receive(), pair.latencies);
  CHECK(request.header().opcode == FUSE_LOOKUP);
  CHECK(request.header().nodeid == 7);
  CHECK(request.name(0) == "some name");
  CHECK(request.name(5) == "name");
  request.succeed();
}

TEST_CASE("a WRITE's payload is aligned, whatever its size") {
  Pair pair;
  std::vector<Message> held;
  for (std::size_t payload : {std::size_t{512}, std::size_t{4096}, std::size_t{65536}, std::size_t{kMaxWrite}}) {
    std::vector<std::byte> arguments = write_arguments(payload);
    pair.send(FUSE_WRITE, arguments);
    held.push_back(pair.receive());
    std::span<const std::byte> received = held.back().arguments();
    REQUIRE(received.size() == arguments.size());
    auto address = reinterpret_cast<std::uintptr_t>(received.data() + sizeof(fuse_write_in));
    CHECK(address % AlignedBuffer::kAlignment == 0);
  }
  // Held messages keep their bytes while later ones arrive.
  for (const Message& message : held) {
    std::vector<std::byte> expected = write_arguments(message.arguments().size() - sizeof(fuse_write_in));
    CHECK(std::equal(expected.begin(), expected.end(), message.arguments().begin()));
  }
}

TEST_CASE("answers carry the request's number, an error, or parts in order") {
  Pair pair;
  pair.send(FUSE_GETATTR, {});
  Request(*pair.channel, pair.receive(), pair.latencies).fail(ENOENT);
  Pair::Answer refused = pair.answer();
  CHECK(refused.header.unique == 42);
  CHECK(refused.header.error == -ENOENT);
  CHECK(refused.body.empty());

  pair.send(FUSE_IOCTL, {});
  std::vector<std::byte> data(3, std::byte{9});
  Request(*pair.channel, pair.receive(), pair.latencies)
      .succeed_with_head(fuse_write_out{.size = 5, .padding = 6}, data);
  Pair::Answer answered = pair.answer();
  CHECK(answered.header.error == 0);
  REQUIRE(answered.body.size() == sizeof(fuse_write_out) + 3);
  CHECK(answered.body[0] == std::byte{5});
  CHECK(answered.body.back() == std::byte{9});

  pair.send(FUSE_CREATE, {});
  Request(*pair.channel, pair.receive(), pair.latencies).succeed_with(fuse_write_out{}, fuse_open_out{});
  CHECK(pair.answer().body.size() == sizeof(fuse_write_out) + sizeof(fuse_open_out));
}

TEST_CASE("a request that is destroyed without an answer gets EIO") {
  Pair pair;
  pair.send(FUSE_FSYNC, {});
  {
    Request request(*pair.channel, pair.receive(), pair.latencies);
    Request moved(std::move(request));
  }
  CHECK(pair.answer().header.error == -EIO);
  char byte = 0;
  CHECK(read(pair.kernel.get(), &byte, 1) < 0);
  CHECK(errno == EAGAIN);
}

TEST_CASE("nothing waits, then the kernel's end is gone") {
  Pair pair;
  std::optional<Message> message;
  CHECK(pair.channel->receive(message) == Channel::Received::nothing);
  pair.kernel = FileDescriptor();
  CHECK(pair.channel->receive(message) == Channel::Received::ended);
}

TEST_CASE("a closed channel takes and gives nothing") {
  Pair pair;
  pair.send(FUSE_GETATTR, {});
  Request request(*pair.channel, pair.receive(), pair.latencies);
  pair.channel->close();
  std::optional<Message> message;
  CHECK(pair.channel->receive(message) == Channel::Received::ended);
  request.fail(ENOENT);
  char byte = 0;
  CHECK(read(pair.kernel.get(), &byte, 1) == 0);
}

TEST_CASE("attributes are invalidated with a notification") {
  Pair pair;
  pair.channel->invalidate_attributes(99);
  Pair::Answer notification = pair.answer();
  CHECK(notification.header.unique == 0);
  CHECK(notification.header.error == FUSE_NOTIFY_INVAL_INODE);
  fuse_notify_inval_inode_out out{};
  REQUIRE(notification.body.size() == sizeof(out));
  std::memcpy(&out, notification.body.data(), sizeof(out));
  CHECK(out.ino == 99);
  CHECK(out.off == -1);
}

TEST_CASE("large buffers are used again") {
  LargeBuffers buffers(1 << 20);
  std::byte* first = nullptr;
  {
    LargeBuffers::Buffer buffer = buffers.take();
    first = buffer.get();
    CHECK(reinterpret_cast<std::uintptr_t>(first) % AlignedBuffer::kAlignment == 0);
  }
  LargeBuffers::Buffer again = buffers.take(1 << 19);
  CHECK(again.get() == first);
  LargeBuffers::Buffer small = buffers.take(100);
  CHECK(reinterpret_cast<std::uintptr_t>(small.get()) % AlignedBuffer::kAlignment == 0);
}

}  // namespace
}  // namespace corral
