/// The command line of mount.corral, as a person, mount(8) or fstab gives it: what to mount where, and the -o options.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "control/metrics_endpoint.h"
#include "fs/mount_options.h"
#include "fuse/event_hooks.h"
#include "node/node_settings.h"

namespace corral {

struct MountArguments {
  MountArguments();

  std::string device;
  std::string directory;
  MountOptions filesystem;
  NodeSettings node;
  unsigned long kernel_flags = 0;  ///< MS_* for mount(2)
  std::string security_options;    ///< SELinux contexts, for mount(2)
  bool remount = false;
  bool for_filesystem = false;  ///< options beyond the generic ones of mount(2) were given
  bool writeback_cache = false;
  std::optional<MetricsAddress> metrics;
  std::string event_hooks = EventHooks::kFolder;  ///< folder
  bool rejoin = true;                             ///< a node that the cluster has lost comes back by itself
  Duration spin = std::chrono::microseconds(50);  ///< see EventLoop
  /// Options that were understood but change nothing here, to be told to the user.
  std::vector<std::string> without_effect;

  /// Takes in an -o argument: comma-separated options, each `name` or `name=value`; the later of two that contradict
  /// each other wins. EINVAL names the option that is unknown or whose value is wrong, and what would be right.
  Result<> add_options(std::string_view options);
  /// After the last option: settles what follows from several of them.
  void finish();

 private:
  Result<> add_option(std::string_view name, std::string_view value, bool has_value);
  bool set_kernel_flag(std::string_view name);
  bool set_switch(std::string_view name);
  Result<> set_value(std::string_view name, std::string_view value);
};

}  // namespace corral
