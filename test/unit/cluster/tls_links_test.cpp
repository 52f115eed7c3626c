#include "cluster/tls_links.h"

#include <array>
#include <cstring>
#include <string>

#include <netinet/in.h>
#include <sys/socket.h>

#include "test/support/catch.h"

using namespace corral;
using namespace corral::cluster;
using namespace std::chrono_literals;

namespace {

constexpr Duration kLimit = 30s;

LinkOptions options_with(std::uint8_t secret) {
  LinkOptions options;
  options.cluster[0] = 1;
  options.secret[0] = secret;
  options.retry_interval = 20ms;
  return options;
}

Address loopback(bool six) {
  Address address{};
  address[15] = 1;
  if (!six) {
    address[10] = address[11] = 0xFF;
    address[12] = 127;
  }
  return address;
}

std::vector<std::byte> bytes_of(const std::string& text) {
  std::vector<std::byte> bytes(text.size());
  std::memcpy(bytes.data(), text.data(), text.size());
  return bytes;
}

/// Remembers all that a link tells.
struct Recorder final : LinkUser {
  explicit Recorder(EventLoop& loop) : changed(loop.executor()) {}
  void received(Member from, std::span<const std::byte> message) override {
    messages.emplace_back(from, std::string(reinterpret_cast<const char*>(message.data()), message.size()));
    changed.notify_all();
  }
  void connected(Member peer) override {
    peers.push_back(peer);
    changed.notify_all();
  }
  void disconnected(Member peer) override {
    std::erase(peers, peer);
    ++breaks;
    changed.notify_all();
  }
  void refused(Member peer) override {
    refusals.push_back(peer);
    changed.notify_all();
  }
  bool hears(Member peer) const { return std::ranges::count(peers, peer) == 1; }

  Signal changed;
  std::vector<Member> peers;
  std::vector<std::pair<Member, std::string>> messages;
  std::uint32_t breaks = 0;
  std::vector<Member> refusals;
};

template <class Condition>
Task<bool> until(EventLoop& loop, Recorder& recorder, const Condition& condition) {
  const Time limit = loop.clock().now() + kLimit;
  while (!condition() && loop.clock().now() < limit)
    co_await recorder.changed.wait_until(limit);
  co_return condition();
}

/// A node's links with a recorder of what they tell.
struct End {
  End(EventLoop& in, std::uint32_t node, std::uint64_t incarnation, LinkOptions options)
      : loop(in), self{NodeId(node), Incarnation(incarnation)}, recorder(in) {
    auto made = TlsLinks::listen(loop, options, Logger(sink));
    if (!made) FAIL(made.error().describe());
    links = *std::move(made);
    open();
  }
  void open() {
    link = &links->open(self);
    link->attach(LinkChannel::locks, &recorder);
  }
  Peer as_peer(bool six = false) const { return {self, {loopback(six)}, links->port()}; }
  template <class Condition>
  bool wait(const Condition& condition) {
    return loop.run_until_done(until(loop, recorder, condition));
  }
  bool connects_to(const End& other) {
    return wait([&] { return recorder.hears(other.self); });
  }

  EventLoop& loop;
  Member self;
  NullLogSink sink;
  Recorder recorder;
  std::unique_ptr<TlsLinks> links;
  Link* link = nullptr;
};

/// A TCP connection of somebody who is no node.
class Stranger {
 public:
  explicit Stranger(std::uint16_t port) : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    REQUIRE(::connect(socket_.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0);
  }
  void say(const std::string& text) {
    (void)::send(socket_.get(), text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  }
  /// What came back; empty and `closed` where the other side has hung up.
  std::string hear(bool& closed) {
    std::array<char, 4096> bytes;
    const ssize_t got = ::recv(socket_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
    closed = got == 0 || (got < 0 && errno == ECONNRESET);
    return got > 0 ? std::string(bytes.data(), static_cast<std::size_t>(got)) : std::string();
  }

 private:
  FileDescriptor socket_;
};

/// Carries bytes between two streams until neither has more to say.
Result<> exchange(TlsStream& a, TlsStream& b, std::vector<std::byte>& at_a, std::vector<std::byte>& at_b) {
  for (;;) {
    std::vector<std::byte> from_a;
    std::vector<std::byte> from_b;
    a.take_output(from_a);
    b.take_output(from_b);
    if (from_a.empty() && from_b.empty()) return {};
    TRY_VOID(b.receive(from_a, at_b));
    TRY_VOID(a.receive(from_b, at_a));
  }
}

}  // namespace

TEST_CASE("streams of one secret understand each other, of two secrets they do not") {
  const LinkOptions one = options_with(1);
  const TlsKey key(one.cluster, one.secret);
  const TlsKey other(one.cluster, options_with(2).secret);
  std::vector<std::byte> at_a;
  std::vector<std::byte> at_b;
  {
    TlsStream a(key, TlsStream::Side::client);
    TlsStream b(key, TlsStream::Side::server);
    REQUIRE(exchange(a, b, at_a, at_b));
    REQUIRE((a.ready() && b.ready()));
    a.send(bytes_of("to b"));
    b.send(bytes_of("to a"));
    REQUIRE(exchange(a, b, at_a, at_b));
    CHECK((at_a == bytes_of("to a") && at_b == bytes_of("to b")));
    std::vector<std::byte> sealed;
    a.send(bytes_of("secret words"));
    a.take_output(sealed);
    CHECK(std::string(reinterpret_cast<char*>(sealed.data()), sealed.size()).find("secret") == std::string::npos);
    sealed.back() ^= std::byte{1};
    CHECK_FALSE(b.receive(sealed, at_b));
  }
  TlsStream a(other, TlsStream::Side::client);
  TlsStream b(key, TlsStream::Side::server);
  CHECK_FALSE(exchange(a, b, at_a, at_b));
  CHECK_FALSE((a.ready() || b.ready()));
}

TEST_CASE("nodes connect over IPv4 and IPv6, and messages arrive whole and in order") {
  for (bool six : {false, true}) {
    EventLoop loop;
    End low(loop, 1, 10, options_with(1));
    End high(loop, 2, 20, options_with(1));
    low.links->set_peers({high.as_peer(six)});
    high.links->set_peers({low.as_peer(six)});
    REQUIRE(low.connects_to(high));
    REQUIRE(high.connects_to(low));
    CHECK_FALSE(low.link->send({NodeId(2), Incarnation(21)}, LinkChannel::locks, {}));
    constexpr std::size_t kMessages = 300;
    for (std::size_t i = 0; i < kMessages; ++i)
      REQUIRE(low.link->send(high.self, LinkChannel::locks, bytes_of(std::string(i * 7, 'x') + std::to_string(i))));
    REQUIRE(low.link->send(high.self, LinkChannel::locks, std::vector<std::byte>(kLinkMessageBytesMax)));
    REQUIRE(low.link->send(high.self, LinkChannel::filesystem, bytes_of("nobody listens")));
    REQUIRE(high.link->send(low.self, LinkChannel::locks, {}));
    REQUIRE(high.wait([&] { return high.recorder.messages.size() == kMessages + 1; }));
    for (std::size_t i = 0; i < kMessages; ++i)
      REQUIRE(high.recorder.messages[i] == std::pair(low.self, std::string(i * 7, 'x') + std::to_string(i)));
    CHECK(high.recorder.messages.back().second.size() == kLinkMessageBytesMax);
    REQUIRE(low.wait([&] { return low.recorder.messages.size() == 1; }));
  }
}

TEST_CASE("a peer that goes is missed, and its next life is met") {
  EventLoop loop;
  End low(loop, 1, 10, options_with(1));
  End high(loop, 2, 20, options_with(1));
  low.links->set_peers({high.as_peer()});
  high.links->set_peers({low.as_peer()});
  REQUIRE(low.connects_to(high));
  REQUIRE(high.connects_to(low));
  for (End* restarted : {&high, &low}) {
    End& other = restarted == &high ? low : high;
    const Member before = restarted->self;
    restarted->links->close();
    restarted->recorder.peers.clear();
    REQUIRE(other.wait([&] { return !other.recorder.hears(before); }));
    CHECK(other.recorder.breaks == 1);
    restarted->self.incarnation += 1;
    restarted->open();
    restarted->links->set_peers({other.as_peer()});
    other.links->set_peers({restarted->as_peer()});
    REQUIRE(other.connects_to(*restarted));
    REQUIRE(restarted->connects_to(other));
  }
}

TEST_CASE("a host says when a peer's process has ended, but not while it listens") {
  EventLoop loop;
  auto low = std::make_unique<End>(loop, 1, 10, options_with(1));
  auto high = std::make_unique<End>(loop, 2, 20, options_with(1));
  auto third = std::make_unique<End>(loop, 3, 30, options_with(1));
  const auto introduce = [](End& one, std::vector<Peer> peers) { one.links->set_peers(std::move(peers)); };
  introduce(*low, {high->as_peer(), third->as_peer()});
  introduce(*high, {low->as_peer(), third->as_peer()});
  introduce(*third, {low->as_peer(), high->as_peer()});
  REQUIRE(low->connects_to(*high));
  REQUIRE(low->connects_to(*third));
  REQUIRE(high->connects_to(*third));
  SECTION("the connecting side and the other learn it") {
    const Member gone = high->self;
    high.reset();
    for (End* end : {low.get(), third.get()}) {
      CHECK(end->wait([&] { return std::ranges::count(end->recorder.refusals, gone) > 0; }));
      CHECK(std::ranges::count(end->recorder.refusals, gone) ==
            static_cast<std::ptrdiff_t>(end->recorder.refusals.size()));
    }
  }
  SECTION("a process that only hangs up is not taken for ended") {
    const Member closed = high->self;
    high->links->close();
    REQUIRE(low->wait([&] { return !low->recorder.hears(closed); }));
    REQUIRE(third->wait([&] { return !third->recorder.hears(closed); }));
    // Until another one has been asked and told of meanwhile.
    const Member gone = third->self;
    third.reset();
    REQUIRE(low->wait([&] { return std::ranges::count(low->recorder.refusals, gone) > 1; }));
    CHECK(std::ranges::count(low->recorder.refusals, closed) == 0);
  }
}

TEST_CASE("a node is let in only as the life that is expected, with the cluster's secret") {
  EventLoop loop;
  End low(loop, 1, 10, options_with(1));
  End good(loop, 2, 20, options_with(1));
  End old_life(loop, 3, 30, options_with(1));
  End other_secret(loop, 4, 40, options_with(9));
  Peer next_life = old_life.as_peer();
  next_life.member.incarnation += 1;
  low.links->set_peers({good.as_peer(), next_life, other_secret.as_peer()});
  for (End* end : {&old_life, &other_secret})
    end->links->set_peers({low.as_peer()});
  // Time enough for many attempts of those two.
  bool passed = false;
  loop.run_until_done([](EventLoop& on, bool& done) -> Task<void> {
    co_await on.executor().sleep_for(500ms);
    done = true;
  }(loop, passed));
  CHECK(low.recorder.peers.empty());
  CHECK((old_life.recorder.peers.empty() && other_secret.recorder.peers.empty()));
  good.links->set_peers({low.as_peer()});
  REQUIRE(low.connects_to(good));
  CHECK(low.recorder.peers.size() == 1);
}

TEST_CASE("strangers get nothing, are few, and disturb nobody") {
  EventLoop loop;
  LinkOptions options = options_with(1);
  options.greeting_timeout = 300ms;
  End low(loop, 1, 10, options);
  End high(loop, 2, 20, options_with(1));
  low.links->set_peers({high.as_peer()});
  high.links->set_peers({low.as_peer()});
  REQUIRE(low.connects_to(high));
  REQUIRE(high.connects_to(low));
  std::vector<std::unique_ptr<Stranger>> strangers;
  const std::vector<std::string> words{"", "GET / HTTP/1.0\r\n\r\n", std::string("\x16\x03\x01\x02\x00\x01", 6),
                                       std::string(100'000, '\0')};
  std::size_t most = 0;
  for (std::size_t i = 0; i < 2 * kStrangersMax; ++i) {
    strangers.push_back(std::make_unique<Stranger>(low.links->port()));
    strangers.back()->say(words[i % words.size()]);
    REQUIRE(high.link->send(low.self, LinkChannel::locks, bytes_of("hello")));
    REQUIRE(low.wait([&] { return low.recorder.messages.size() == i + 1; }));
    most = std::max(most, low.links->strangers());
  }
  CHECK(most <= kStrangersMax);
  // All are hung up on in the end; the signal of a message is what looks at it again.
  REQUIRE(low.wait([&] {
    if (low.links->strangers() == 0) return true;
    (void)high.link->send(low.self, LinkChannel::locks, bytes_of("again"));
    return false;
  }));
  for (auto& stranger : strangers) {
    bool closed = false;
    CHECK(stranger->hear(closed) == "");
    CHECK(closed);
  }
  CHECK((low.recorder.breaks == 0 && high.recorder.breaks == 0));
}

TEST_CASE("a port that is taken is told") {
  EventLoop loop;
  End low(loop, 1, 10, options_with(1));
  LinkOptions options = options_with(1);
  options.port = low.links->port();
  NullLogSink sink;
  const auto second = TlsLinks::listen(loop, options, Logger(sink));
  REQUIRE_FALSE(second);
  CHECK(second.error().code() == EADDRINUSE);
  CHECK(second.error().message().find(std::to_string(options.port)) != std::string::npos);
}
