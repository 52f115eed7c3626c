/// Reads of a device, file or iscsi:// name through the Device seam, to hold against fio or iscsi-perf on the same
/// storage; random 4 KiB ones unless a larger size is given, whose reads follow one another:
///
///     device_bench NAME [DEPTH [SECONDS [SPIN_MICROSECONDS [BYTES]]]]
///     fio --name=r --filename=FILE --ioengine=io_uring --direct=1 --rw=randread --bs=4k --iodepth=DEPTH \
///         --runtime=SECONDS --time_based
#include <algorithm>
#include <cstdlib>
#include <vector>

#include <fmt/format.h>
#include <sys/resource.h>

#include "base/aligned_buffer.h"
#include "base/random.h"
#include "disk/event_loop.h"
#include "disk/open_device.h"
#include "disk/uring_device.h"

using namespace corral;

namespace {
constexpr std::size_t kSmallBytes = 4096;

struct Measurement {
  Time end;
  std::size_t bytes = kSmallBytes;
  std::uint64_t next_block = 0;
  std::vector<std::uint32_t> latencies_ns;
  std::string error;
};

Task<void> read_on(Executor& executor, Device& device, Random random, Measurement& measurement) {
  AlignedBuffer buffer(measurement.bytes);
  std::uint64_t blocks = device.geometry().size_bytes / measurement.bytes;
  for (Time began = executor.now(); began < measurement.end;) {
    bool small = measurement.bytes == kSmallBytes;
    std::uint64_t block = small ? random.below(blocks) : measurement.next_block++ % blocks;
    auto read = co_await device.read(block * measurement.bytes, buffer.span());
    if (!read) {
      measurement.error = read.error().describe();
      co_return;
    }
    Time now = executor.now();
    measurement.latencies_ns.push_back(static_cast<std::uint32_t>((now - began).count()));
    began = now;
  }
}

Task<void> join(Scope& scope) {
  co_await scope.join();
}

double cpu_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  auto seconds = [](timeval t) { return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6; };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

double percentile_us(std::vector<std::uint32_t>& sorted, std::size_t percent) {
  return sorted[(sorted.size() - 1) * percent / 100] / 1e3;
}

int run(const std::string& name, unsigned depth, double seconds, Duration spin, std::size_t bytes) {
  EventLoop loop(spin);
  auto device = loop.run_until_done(open_device(loop, name, {.read_only = true}));
  if (!device) {
    fmt::print(stderr, "device_bench: {}\n", device.error().describe());
    return 1;
  }
  Time began = loop.clock().now();
  double cpu_began = cpu_seconds();
  Measurement measurement;
  measurement.bytes = bytes;
  measurement.end = began + std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds));
  Random random(static_cast<std::uint64_t>(began.time_since_epoch().count()));
  Scope scope(loop.executor());
  for (unsigned i = 0; i < depth; ++i)
    scope.spawn(read_on(loop.executor(), **device, random.split(), measurement));
  loop.run_until_done(join(scope));
  double elapsed = std::chrono::duration<double>(loop.clock().now() - began).count();
  if (!measurement.error.empty() || measurement.latencies_ns.empty()) {
    fmt::print(stderr, "device_bench: {}\n", measurement.error);
    return 1;
  }
  std::ranges::sort(measurement.latencies_ns);
  double rate = static_cast<double>(measurement.latencies_ns.size()) / elapsed;
  fmt::print("depth {} bytes {} reads_per_s {:.0f} mib_per_s {:.0f} p50_us {:.1f} p99_us {:.1f} cpu_percent {:.0f}",
             depth, bytes, rate, rate * static_cast<double>(bytes) / (1 << 20),
             percentile_us(measurement.latencies_ns, 50), percentile_us(measurement.latencies_ns, 99),
             100 * (cpu_seconds() - cpu_began) / elapsed);
  if (auto* uring = dynamic_cast<UringDevice*>(device->get())) {
    const Ring& ring = uring->ring();
    fmt::print(" direct {} submits_per_read {:.3f}", uring->direct(),
               static_cast<double>(ring.submissions()) / static_cast<double>(ring.requests()));
  }
  fmt::print("\n");
  loop.run_until_done((*device)->close());
  return 0;
}
}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    fmt::print(stderr, "usage: device_bench NAME [DEPTH [SECONDS [SPIN_MICROSECONDS [BYTES]]]]\n");
    return 2;
  }
  unsigned depth = argc > 2 ? static_cast<unsigned>(std::atoi(argv[2])) : 32;
  double seconds = argc > 3 ? std::atof(argv[3]) : 3;
  auto spin = std::chrono::microseconds(argc > 4 ? std::atoi(argv[4]) : 0);
  std::size_t bytes = argc > 5 ? static_cast<std::size_t>(std::max(std::atoi(argv[5]), 4096)) : kSmallBytes;
  return run(argv[1], std::max(depth, 1u), seconds, spin, bytes);
}
