/// A volume on a simulated disk with one device, one clock and one executor: for tests of what works on a device.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "base/log.h"
#include "disk/simulated_device.h"
#include "test/support/manual_clock.h"

namespace corral::test {

/// Keeps log lines for assertions.
class LineSink final : public LogSink {
 public:
  bool enabled(LogLevel level) const override { return level != LogLevel::debug; }
  void write(LogLevel, std::string_view line) override { lines.emplace_back(line); }
  std::vector<std::string> lines;
};

struct SimulatedVolume {
  explicit SimulatedVolume(DiskImage image) : disk(std::move(image)), device(executor, disk, 1) {}

  template <class T>
  T run(Task<T> task) {
    return run_to_end(clock, executor, std::move(task));
  }

  ManualClock clock;
  Executor executor{clock};
  SimulatedDisk disk;
  SimulatedDevice device;
  LineSink log;
};

}  // namespace corral::test
