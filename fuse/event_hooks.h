/// Programs of an operator that are told what happens to a node: every executable file of a folder is run for each
/// event, in order of their names, with the event's name as its argument and its JSON object (node/recovery_report.h)
/// on its standard input. Events: join, leave, fenced, recovered, withdrawn.
///
/// They run beside the node and never delay it: one after the other, on a thread of their own. A program that takes
/// longer than kMostTime is killed; events that come when kMostWaiting are waiting are dropped, which the log says.
#pragma once

#include <cstddef>
#include <string>

#include "base/log.h"
#include "base/sync.h"
#include "disk/event_loop.h"
#include "disk/helper_threads.h"

namespace corral {

class EventHooks {
 public:
  static constexpr const char* kFolder = "/etc/corral/events.d";
  static constexpr Duration kMostTime = std::chrono::seconds(60);
  static constexpr std::size_t kMostWaiting = 64;

  /// The folder need not exist.
  EventHooks(EventLoop& loop, std::string folder, Logger log);

  /// Returns at once.
  void run(std::string event, std::string json);
  /// Returns when all that were given have run.
  Task<void> finished();

 private:
  Task<void> run_one(std::string event, std::string json);

  std::string folder_;
  Logger log_;
  HelperThreads thread_;
  Scope runs_;
};

}  // namespace corral
