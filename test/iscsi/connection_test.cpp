// Connections that break: nothing acknowledged is lost, nothing is undone by a repetition.
#include <algorithm>
#include <map>
#include <vector>

#include "test/iscsi/bench.h"
#include "test/support/tcp_proxy.h"

using namespace corral;
using namespace corral::test;

namespace {
constexpr std::uint64_t kRegionBytes = 256 << 10;

/// Random reads and writes within a region of its own, checked against what was written last.
Task<void> work(Device& device, std::uint64_t region, int rounds, std::string& failure) {
  Random random(region + 1);
  std::map<std::uint64_t, std::uint64_t> seeds;
  const std::uint64_t base = region * kRegionBytes;
  for (int round = 0; round < rounds && failure.empty(); ++round) {
    std::size_t bytes = 4096u << random.below(4);
    std::uint64_t at = random.below((kRegionBytes - bytes) / 4096 + 1) * 4096;
    AlignedBuffer out = random_bytes(bytes, random.next());
    Result<> done = co_await device.write(base + at, out.span(), WriteMode::cached);
    for (std::size_t part = 0; part < bytes; part += 4096)
      std::memcpy(&seeds[at + part], out.data() + part, sizeof(std::uint64_t));
    if (done && random.chance(1, 16)) done = co_await device.flush();
    if (done) {
      auto checked = std::next(seeds.begin(), static_cast<std::ptrdiff_t>(random.below(seeds.size())));
      std::uint64_t where = checked->first, expected = checked->second, found = 0;
      AlignedBuffer in(4096);
      done = co_await device.read(base + where, in.span());
      std::memcpy(&found, in.data(), sizeof(found));
      if (done && found != expected) failure = fmt::format("region {}: stale contents at {}", region, where);
    }
    if (!done) failure = done.error().describe();
  }
}

Task<void> join(Scope& scope) {
  co_await scope.join();
}

void work_all(EventLoop& loop, Device& device, int regions, int rounds) {
  std::string failure;
  Scope scope(loop.executor());
  for (int region = 0; region < regions; ++region)
    scope.spawn(work(device, static_cast<std::uint64_t>(region), rounds, failure));
  loop.run_until_done(join(scope));
  INFO(failure);
  REQUIRE(failure.empty());
}

/// Writes on and on until told to stop; counts what was acknowledged. Owns the memory, which a device may touch until
/// it is destroyed.
struct Stream {
  static constexpr std::size_t kRegions = 8;
  std::uint64_t acknowledged = 0;
  bool stop = false;
  std::string failure;
  AlignedBuffer out{kRegions * 4096};
  AlignedBuffer in{kRegions * 4096};
};

Task<void> stream(Device& device, std::uint64_t region, Stream& state) {
  auto block = state.out.span().subspan(region * 4096, 4096);
  auto in = state.in.span().subspan(region * 4096, 4096);
  for (std::uint64_t version = 1; !state.stop && state.failure.empty(); ++version) {
    std::memcpy(block.data(), &version, sizeof(version));
    Result<> done = co_await device.write(region * kRegionBytes, block, WriteMode::cached);
    if (done) done = co_await device.read(region * kRegionBytes, in);
    if (done && !std::ranges::equal(in, block)) state.failure = "stale contents";
    if (!done) state.failure = done.error().describe();
    ++state.acknowledged;
  }
}

Task<void> wait_for(Executor& executor, const Stream& state, std::uint64_t acknowledged) {
  while (state.acknowledged < acknowledged && state.failure.empty())
    co_await executor.sleep_for(std::chrono::milliseconds(5));
}

Task<void> pause(Executor& executor) {
  co_await executor.sleep_for(std::chrono::milliseconds(10));
}
}  // namespace

TEST_CASE("random I/O over connections that are reset again and again") {
  NEED_TGT();
  TgtTarget target;
  TcpProxy proxy(target.port());
  EventLoop loop;
  auto device = open_lun(loop, target.url({}, proxy.port()));
  proxy.reset_after(400'000);
  work_all(loop, *device, 16, 60);
  REQUIRE(proxy.resets() > 5);
  REQUIRE(device->connections() > 5);
  proxy.reset_after(0);
  must(loop, device->flush());
}

namespace {
Task<void> write_large(Device& device, std::uint64_t number, std::span<const std::byte> bytes, int& done) {
  Result<> written = co_await device.write(number * bytes.size(), bytes, WriteMode::cached);
  if (written) ++done;
}
}  // namespace

TEST_CASE("connections that carry little more than one transfer get any number of them through") {
  NEED_TGT();
  TgtTarget target;
  TcpProxy proxy(target.port());
  EventLoop loop;
  auto device = open_lun(loop, target.url({}, proxy.port()));
  AlignedBuffer bytes(1 << 20);
  proxy.reset_after(1'300'000);
  constexpr int kTransfers = 32;
  int done = 0;
  Scope scope(loop.executor());
  for (int number = 0; number < kTransfers; ++number)
    scope.spawn(write_large(*device, static_cast<std::uint64_t>(number), bytes.span(), done));
  loop.run_until_done(join(scope));
  REQUIRE(done == kTransfers);
  REQUIRE(proxy.resets() >= kTransfers / 2);
  proxy.reset_after(0);
}

TEST_CASE("a reset connection costs no acknowledged write its flush") {
  NEED_TGT();
  TgtTarget target;
  TcpProxy proxy(target.port());
  EventLoop loop;
  auto device = open_lun(loop, target.url({}, proxy.port()));
  AlignedBuffer block = random_bytes(4096, 1);
  must(loop, device->write(0, block.span(), WriteMode::cached));
  proxy.cut(true);
  proxy.cut(false);
  // tgt greets the new session with "power on or reset"; the registrations' generation shows that it has not been off.
  must(loop, device->read(0, block.span()));
  must(loop, device->flush());
}

TEST_CASE("a target that dies and comes back is written to again, in order") {
  NEED_TGT();
  TgtTarget target;
  EventLoop loop;
  auto device = open_lun(loop, target.url());
  Stream state;
  Scope scope(loop.executor());
  for (std::uint64_t region = 0; region < 8; ++region)
    scope.spawn(stream(*device, region, state));
  for (int restart = 0; restart < 3; ++restart) {
    loop.run_until_done(wait_for(loop.executor(), state, state.acknowledged + 200));
    target.stop();
    target.start();
  }
  loop.run_until_done(wait_for(loop.executor(), state, state.acknowledged + 200));
  state.stop = true;
  loop.run_until_done(join(scope));
  INFO(state.failure);
  REQUIRE(state.failure.empty());
  REQUIRE(device->connections() >= 4);
}

TEST_CASE("after a target's restart no flush vouches for what its cache held") {
  NEED_TGT();
  TgtTarget target;
  EventLoop loop;
  auto device = open_lun(loop, target.url());
  AlignedBuffer block = random_bytes(4096, 1);

  SECTION("everything was flushed before: nothing is lost") {
    must(loop, device->write(0, block.span(), WriteMode::cached));
    must(loop, device->flush());
    target.stop();
    target.start();
    must(loop, device->read(0, block.span()));
    must(loop, device->write(0, block.span(), WriteMode::cached));
    must(loop, device->flush());
  }
  SECTION("an acknowledged write was not: every flush fails from then on") {
    must(loop, device->write(0, block.span(), WriteMode::cached));
    target.stop();
    target.start();
    auto flushed = loop.run_until_done(device->flush());
    REQUIRE_FALSE(flushed.has_value());
    REQUIRE(flushed.error().code() == EIO);
    REQUIRE(mentions(flushed.error(), "restarted"));
    REQUIRE(code_of(loop, device->flush()) == EIO);
    must(loop, device->read(0, block.span()));
  }
}

TEST_CASE("a restart without loss is forgotten: later resets are told from restarts again") {
  NEED_TGT();
  TgtTarget target;
  TcpProxy proxy(target.port());
  EventLoop loop;
  auto device = open_lun(loop, target.url({}, proxy.port()));
  AlignedBuffer block = random_bytes(4096, 1);
  target.stop();
  target.start();
  must(loop, device->write(0, block.span(), WriteMode::cached));
  proxy.cut(true);
  proxy.cut(false);
  must(loop, device->flush());
}

TEST_CASE("a target that does not answer is left for a new session") {
  NEED_TGT();
  TgtTarget target;
  TcpProxy proxy(target.port());
  EventLoop loop;
  auto device = open_lun(loop, target.url("timeout=1", proxy.port()));
  proxy.stall();
  AlignedBuffer out = random_bytes(65536, 9);
  AlignedBuffer in(65536);
  // Either the stall came first and the write goes out a second time, or it went through.
  must(loop, device->write(0, out.span(), WriteMode::cached));
  must(loop, device->write(65536, out.span(), WriteMode::cached));
  must(loop, device->read(0, in.span()));
  REQUIRE(equal(in, out));
  must(loop, device->flush());
}

TEST_CASE("operations fail when the connection does not come back, and work again when it does") {
  NEED_TGT();
  TgtTarget target;
  TcpProxy proxy(target.port());
  EventLoop loop;
  auto device = open_lun(loop, target.url("recovery=1&timeout=1", proxy.port()));
  proxy.cut(true);
  AlignedBuffer block(4096);
  int code = 0;
  for (int attempt = 0; code == 0 && attempt < 10000; ++attempt)
    code = code_of(loop, device->read(0, block.span()));
  REQUIRE(code == ETIMEDOUT);
  proxy.cut(false);
  for (int attempt = 0; code != 0 && attempt < 1000; ++attempt) {
    code = code_of(loop, device->read(0, block.span()));
    loop.run_until_done(pause(loop.executor()));
  }
  REQUIRE(code == 0);
}

TEST_CASE("a disk that is another one after the connection was lost is not written to") {
  NEED_TGT();
  TgtTarget target;
  EventLoop loop;
  auto device = open_lun(loop, target.url("recovery=60"));
  target.stop();
  REQUIRE(truncate(target.image().c_str(), 16 << 20) == 0);
  target.start();
  AlignedBuffer block(4096);
  auto written = loop.run_until_done(device->write(0, block.span(), WriteMode::cached));
  REQUIRE_FALSE(written.has_value());
  REQUIRE(mentions(written.error(), "another disk"));
}

TEST_CASE("waiting operations may be given up at any moment") {
  NEED_TGT();
  TgtTarget target;
  TcpProxy proxy(target.port());
  EventLoop loop;
  for (int turns = 0; turns < 12; ++turns) {
    Stream state;
    auto device = open_lun(loop, target.url({}, proxy.port()));
    auto scope = std::make_unique<Scope>(loop.executor());
    for (std::uint64_t region = 0; region < 4; ++region)
      scope->spawn(stream(*device, region, state));
    if (turns % 3 == 0) proxy.cut(true);
    loop.run_until_done(wait_for(loop.executor(), state, static_cast<std::uint64_t>(turns % 3 == 0 ? 0 : turns)));
    scope.reset();
    proxy.cut(false);
    if (turns % 2 == 0) loop.run_until_done(device->close());
  }
}
