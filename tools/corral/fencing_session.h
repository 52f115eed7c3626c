/// Works on the fencing and the cluster area of a volume that others may be using, with a deadline on every answer of
/// the disk.
#pragma once

#include <string>

#include "base/log.h"
#include "base/random.h"
#include "disk/event_loop.h"
#include "disk/open_device.h"
#include "fence/disk_fencing.h"
#include "tools/corral/answer_deadline.h"

namespace corral {

/// Opens the device beside whoever uses it, runs the task that work(executor, fencing) makes, and closes it.
template <class Work>
Result<> with_fencing(const std::string& name, bool read_only, Work work) {
  EventLoop loop;
  AnswerDeadline deadline(loop.executor());
  SystemLogSink sink("corral", LogLevel::warning, true, false);
  const StorageOptions options{.read_only = read_only, .exclusive = false, .shared_file = true};
  TRY(auto device, loop.run_until_done(deadline.wait_for(open_device(loop, name, options), name + ": opening it")));
  DeadlineDevice watched(*device, deadline);
  Random random(loop.clock().wall().nanoseconds);
  auto run = [&]() -> Result<> {
    TRY(DiskFencing fencing,
        loop.run_until_done(DiskFencing::open(loop.executor(), watched, loop.clock().wall(), random, Logger(sink))));
    return loop.run_until_done(work(loop.executor(), fencing));
  };
  Result<> result = run();
  loop.run_until_done(deadline.wait_for(device->close(), name + ": closing it"));
  return result;
}

/// To the host's log: what an operator said, and on which device.
template <class... Args>
void note_in_syslog(const std::string& device, fmt::format_string<Args...> format, Args&&... args) {
  SystemLogSink sink("corral", LogLevel::info, false, true);
  Logger(sink).info("{}: {}", device, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace corral
