#include "disk/write_gate.h"

#include <optional>

#include "base/aligned_buffer.h"
#include "disk/simulated_device.h"
#include "test/support/catch.h"
#include "test/support/manual_clock.h"

using namespace corral;
using namespace std::chrono_literals;

namespace {
struct Bench {
  static SimulatedDeviceOptions slow_writes() {
    SimulatedDeviceOptions options;
    options.write_latency = {.least = 10ms, .most = 10ms};
    return options;
  }
  Result<> run(Task<Result<>> task) { return run_to_end(clock, executor, std::move(task)); }
  Task<void> write() {
    Result<> done = co_await gate.write(0, block.span(), WriteMode::cached);
    written += done ? 1 : 0;
  }
  Task<void> hold(std::optional<int>& written_when_drained) {
    WriteGate::Hold hold(gate);
    co_await hold.drained();
    written_when_drained = written;
    co_await executor.sleep_for(1s);
    written_when_opened = written;
  }

  ManualClock clock;
  Executor executor{clock};
  SimulatedDisk disk{DiskImage(1 << 20)};
  SimulatedDevice device{executor, disk, 1, slow_writes()};
  WriteGate gate{executor, device};
  AlignedBuffer block{4096};
  int written = 0;
  std::optional<int> written_when_opened;
  Scope scope{executor};
};
}  // namespace

TEST_CASE("a gate that is held waits for what is under way, and lets nothing else begin") {
  Bench bench;
  std::optional<int> drained;
  bench.scope.spawn(bench.write());
  bench.scope.spawn(bench.hold(drained));
  CHECK_FALSE(drained);
  bench.scope.spawn(bench.write());
  bench.clock.run_until_idle(bench.executor);
  CHECK(drained == 1);
  CHECK(bench.written_when_opened == 1);
  CHECK(bench.written == 2);
}

TEST_CASE("a gate opens when the last of those who hold it lets go") {
  Bench bench;
  std::optional<int> one, other;
  bench.scope.spawn(bench.hold(one));
  bench.clock.run_until(bench.executor, [&] { return bench.clock.now() >= Time{} + 500ms || one.has_value(); });
  bench.scope.spawn(bench.hold(other));
  bench.scope.spawn(bench.write());
  bench.clock.run_until_idle(bench.executor);
  CHECK(one == 0);
  CHECK(other == 0);
  CHECK(bench.written_when_opened == 0);
  CHECK(bench.written == 1);
}

TEST_CASE("a gate that is shut lets nothing begin any more, and fails what it holds back") {
  Bench bench;
  std::optional<int> drained;
  bench.scope.spawn(bench.write());
  bench.scope.spawn(bench.hold(drained));
  std::optional<int> code;
  auto held_back = [&]() -> Task<void> {
    Result<> done = co_await bench.gate.write(0, bench.block.span(), WriteMode::cached);
    code = done ? 0 : done.error().code();
  };
  bench.scope.spawn(held_back());
  bench.gate.shut(Error(EBADE, "lost"));
  bench.clock.run_until(bench.executor, [&] { return code.has_value(); });
  CHECK(code == EBADE);
  CHECK(bench.run(bench.gate.discard(0, 4096)).error().code() == EBADE);
  bench.clock.run_until_idle(bench.executor);
  CHECK(drained == 1);  // what was under way ends as it ends
  CHECK(bench.written == 1);
}
