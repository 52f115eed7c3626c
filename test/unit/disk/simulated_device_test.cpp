#include "disk/simulated_device.h"

#include <algorithm>
#include <string>
#include <vector>

#include "base/aligned_buffer.h"
#include "test/support/catch.h"
#include "test/support/manual_clock.h"

using namespace corral;
using namespace std::chrono_literals;

namespace {
constexpr std::uint64_t kBytes = 1 << 20;

AlignedBuffer filled(std::size_t bytes, int value) {
  AlignedBuffer buffer(bytes);
  std::ranges::fill(buffer.span(), static_cast<std::byte>(value));
  return buffer;
}

int value_at(const SimulatedDisk& disk, std::uint64_t offset) {
  std::byte byte{};
  disk.contents().read(offset, std::span(&byte, 1));
  return static_cast<int>(byte);
}

SimulatedDeviceOptions slow_writes() {
  return {.write_latency = {.least = 1ms, .most = 1ms}};
}

Task<void> write_and_note(Device& device, std::uint64_t offset, int value, std::vector<int>& order) {
  AlignedBuffer buffer = filled(4096, value);
  auto written = co_await device.write(offset, buffer.span(), WriteMode::cached);
  if (written) order.push_back(value);
}

Task<void> keep_result(Task<Result<>> operation, std::optional<Result<>>& out) {
  out.emplace(co_await operation);
}

/// One disk, one device, one virtual clock.
struct Bench {
  explicit Bench(SimulatedDeviceOptions options = {}, std::uint64_t seed = 1)
      : device(executor, disk, seed, std::move(options)) {}
  Result<> run(Task<Result<>> task) { return run_to_end(clock, executor, std::move(task)); }

  ManualClock clock;
  Executor executor{clock};
  SimulatedDisk disk{DiskImage(kBytes)};
  SimulatedDevice device;
};
}  // namespace

TEST_CASE("what is written is read back, across several spans") {
  Bench bench;
  AlignedBuffer first = filled(4096, 1);
  AlignedBuffer second = filled(8192, 2);
  std::array<WriteSpan, 2> out{first.span(), second.span()};
  REQUIRE(bench.run(bench.device.write(4096, std::span<const WriteSpan>(out), WriteMode::cached)).has_value());
  AlignedBuffer a(8192);
  AlignedBuffer b(4096);
  std::array<ReadSpan, 2> in{a.span(), b.span()};
  REQUIRE(bench.run(bench.device.read(4096, std::span<const ReadSpan>(in))).has_value());
  REQUIRE(a.span()[0] == std::byte{1});
  REQUIRE(a.span()[4096] == std::byte{2});
  REQUIRE(b.span()[4095] == std::byte{2});
  REQUIRE(bench.device.counters().writes == 1);
  REQUIRE(bench.device.counters().bytes_read == 12288);
  REQUIRE(bench.clock.now() == Time{});
}

TEST_CASE("operations take their time and complete out of order, the same way for the same seed") {
  auto run = [](std::uint64_t seed) {
    Bench bench({.write_latency = {.least = 1ms, .most = 9ms}}, seed);
    std::vector<int> order;
    Scope scope(bench.executor);
    for (int i = 0; i < 20; ++i)
      scope.spawn(write_and_note(bench.device, static_cast<std::uint64_t>(i) * 4096, i, order));
    bench.clock.run_until_idle(bench.executor);
    REQUIRE(bench.clock.now().time_since_epoch() >= 1ms);
    REQUIRE(bench.clock.now().time_since_epoch() <= 9ms);
    return order;
  };
  std::vector<int> order = run(1);
  REQUIRE(order.size() == 20);
  REQUIRE_FALSE(std::ranges::is_sorted(order));
  REQUIRE(order == run(1));
  REQUIRE(order != run(2));
}

TEST_CASE("some operations are slow") {
  Bench bench({.read_latency = {.least = 1us, .most = 1us, .slow_per_million = 500'000, .slow = 1s}});
  AlignedBuffer buffer(512);
  for (int i = 0; i < 20; ++i)
    REQUIRE(bench.run(bench.device.read(0, buffer.span())).has_value());
  REQUIRE(bench.clock.now().time_since_epoch() > 3s);
  REQUIRE(bench.clock.now().time_since_epoch() < 17s);
}

TEST_CASE("flush and write-through make stable, a cached write alone does not") {
  Bench bench(SimulatedDeviceOptions::realistic());
  AlignedBuffer buffer = filled(512, 5);
  REQUIRE(bench.run(bench.device.write(0, buffer.span(), WriteMode::cached)).has_value());
  REQUIRE(bench.run(bench.device.flush()).has_value());
  REQUIRE(bench.run(bench.device.write(512, buffer.span(), WriteMode::cached)).has_value());
  REQUIRE(bench.run(bench.device.write(1024, buffer.span(), WriteMode::write_through)).has_value());
  REQUIRE(value_at(bench.disk, 512) == 5);
  bench.disk.power_cut(PowerCut::Unstable::lost, 0);
  REQUIRE(value_at(bench.disk, 0) == 5);
  REQUIRE(value_at(bench.disk, 512) == 0);
  REQUIRE(value_at(bench.disk, 1024) == 5);
}

TEST_CASE("out of bounds, read-only and unsupported requests are refused by name") {
  SimulatedDeviceOptions options;
  options.name = "disk0";
  Bench bench(options);
  AlignedBuffer buffer(4096);
  auto past = bench.run(bench.device.read(kBytes - 512, buffer.span()));
  REQUIRE(past.error().code() == EINVAL);
  REQUIRE(past.error().kind() == ErrorKind::device);
  REQUIRE(past.error().message() ==
          "disk0: read of 4096 bytes at offset 1048064 reaches past the device's end at 1048576");
  REQUIRE(bench.run(bench.device.write(kBytes, buffer.span(), WriteMode::cached)).error().code() == ENOSPC);
  REQUIRE(bench.run(bench.device.discard(kBytes, 512)).error().code() == EINVAL);

  SimulatedDeviceOptions read_only;
  read_only.read_only = true;
  Bench locked(read_only);
  REQUIRE(locked.run(locked.device.write(0, buffer.span(), WriteMode::cached)).error().code() == EROFS);
  REQUIRE(locked.run(locked.device.discard(0, 4096)).error().code() == EROFS);
  REQUIRE(locked.run(locked.device.read(0, buffer.span())).has_value());
  REQUIRE(locked.disk.event_count() == 0);

  ManualClock clock;
  Executor executor(clock);
  SimulatedDisk plain(DiskImage(kBytes), DeviceGeometry{});
  SimulatedDevice device(executor, plain, 1);
  REQUIRE(run_to_end(clock, executor, device.discard(0, 4096)).error().code() == EOPNOTSUPP);
}

TEST_CASE("an injected error strikes the operations and the range it is for, as often as asked") {
  Bench bench;
  AlignedBuffer buffer = filled(4096, 7);
  auto fault = bench.device.add_fault(
      {.operations = SimulatedFault::writes, .begin_bytes = 8192, .end_bytes = 12288, .skip = 1, .times = 2});
  auto write = [&](std::uint64_t offset) {
    return bench.run(bench.device.write(offset, buffer.span(), WriteMode::cached));
  };
  REQUIRE(write(4096).has_value());
  REQUIRE(write(12288).has_value());
  REQUIRE(write(8192).has_value());
  auto struck = write(8192);
  REQUIRE(struck.error().code() == EIO);
  REQUIRE(struck.error().kind() == ErrorKind::device);
  REQUIRE(struck.error().message() == "simulated: write of 4096 bytes at offset 8192 failed: Input/output error");
  REQUIRE(bench.run(bench.device.read(8192, buffer.span())).has_value());
  REQUIRE_FALSE(write(8192).has_value());
  REQUIRE(write(8192).has_value());
  bench.device.remove_fault(fault);

  bench.device.add_fault({.operations = SimulatedFault::flushes, .code = ENXIO});
  REQUIRE(bench.run(bench.device.flush()).error().code() == ENXIO);
}

TEST_CASE("a failed write may have landed in part") {
  Bench bench;
  bench.device.add_fault({.operations = SimulatedFault::writes});
  int landed = 0;
  AlignedBuffer buffer = filled(4096, 7);
  for (std::uint64_t offset = 0; offset < kBytes / 2; offset += 4096)
    REQUIRE_FALSE(bench.run(bench.device.write(offset, buffer.span(), WriteMode::write_through)).has_value());
  for (std::uint64_t sector = 0; sector < kBytes / 1024; ++sector)
    landed += value_at(bench.disk, sector * 512) == 7 ? 1 : 0;
  REQUIRE(landed > 256);
  REQUIRE(landed < 768);
}

TEST_CASE("errors strike with the probability asked for") {
  Bench bench;
  bench.device.add_fault({.operations = SimulatedFault::reads, .per_million = 100'000});
  int failed = 0;
  AlignedBuffer buffer(512);
  for (int i = 0; i < 1000; ++i)
    failed += bench.run(bench.device.read(0, buffer.span())).has_value() ? 0 : 1;
  REQUIRE(failed > 60);
  REQUIRE(failed < 140);
}

TEST_CASE("a stuck operation goes on when its fault is removed") {
  Bench bench;
  auto fault = bench.device.add_fault({.effect = SimulatedFault::Effect::stuck, .operations = SimulatedFault::writes});
  AlignedBuffer buffer = filled(512, 3);
  std::optional<Result<>> result;
  Scope scope(bench.executor);
  scope.spawn(keep_result(bench.device.write(0, buffer.span(), WriteMode::cached), result));
  bench.clock.run_until_idle(bench.executor);
  REQUIRE_FALSE(result.has_value());
  REQUIRE(bench.device.in_flight() == 1);
  REQUIRE(value_at(bench.disk, 0) == 0);
  bench.device.remove_fault(fault);
  bench.clock.run_until_idle(bench.executor);
  REQUIRE(result->has_value());
  REQUIRE(bench.device.in_flight() == 0);
  REQUIRE(value_at(bench.disk, 0) == 3);
}

TEST_CASE("an operation goes on when its caller is destroyed, without the caller's memory") {
  Bench bench(slow_writes());
  {
    Scope scope(bench.executor);
    std::vector<int> order;
    scope.spawn(write_and_note(bench.device, 4096, 9, order));
    auto buffer = std::make_unique<AlignedBuffer>(4096);
    std::optional<Result<>> result;
    scope.spawn(keep_result(bench.device.read(0, buffer->span()), result));
  }
  bench.clock.run_until_idle(bench.executor);
  REQUIRE(bench.device.in_flight() == 0);
  REQUIRE(value_at(bench.disk, 4096) == 9);
}

TEST_CASE("when the device dies, what was in flight lands, or not, or in part") {
  int whole = 0;
  int none = 0;
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    ManualClock clock;
    Executor executor(clock);
    SimulatedDisk disk{DiskImage(kBytes)};
    {
      SimulatedDevice device(executor, disk, seed, slow_writes());
      std::vector<int> order;
      Scope scope(executor);
      scope.spawn(write_and_note(device, 0, 1, order));
    }
    int sectors = 0;
    for (std::uint64_t offset = 0; offset < 4096; offset += 512)
      sectors += value_at(disk, offset);
    whole += sectors == 8 ? 1 : 0;
    none += sectors == 0 ? 1 : 0;
    REQUIRE(disk.events().back().kind == DiskEvent::Kind::failure);
  }
  REQUIRE(whole > 0);
  REQUIRE(none > 0);
  REQUIRE(whole + none < 200);
}

TEST_CASE("a power cut fails what is in flight") {
  Bench bench(slow_writes());
  AlignedBuffer buffer = filled(512, 3);
  std::optional<Result<>> result;
  Scope scope(bench.executor);
  scope.spawn(keep_result(bench.device.write(0, buffer.span(), WriteMode::cached), result));
  bench.disk.power_cut(PowerCut::Unstable::lost, 1);
  bench.clock.run_until_idle(bench.executor);
  REQUIRE(result->error().code() == EIO);
  REQUIRE(result->error().message() == "simulated: write of 512 bytes at offset 0 failed: the storage lost power");
  REQUIRE(value_at(bench.disk, 0) == 0);
}

TEST_CASE("two devices share one disk") {
  ManualClock clock;
  Executor executor(clock);
  SimulatedDisk disk{DiskImage(kBytes)};
  SimulatedDevice a(executor, disk, 1, slow_writes());
  SimulatedDevice b(executor, disk, 2);
  AlignedBuffer buffer = filled(512, 4);
  REQUIRE(run_to_end(clock, executor, a.write(0, buffer.span(), WriteMode::cached)).has_value());
  AlignedBuffer in(512);
  REQUIRE(run_to_end(clock, executor, b.read(0, in.span())).has_value());
  REQUIRE(in.span()[511] == std::byte{4});
}
