/// A volume that this program has for itself, mounted without the kernel for work that a mount does: so there is one
/// way in which that is done, whether nodes have the volume mounted or nobody.
#pragma once

#include <functional>
#include <memory>
#include <stop_token>
#include <string>

#include <nlohmann/json.hpp>

#include "base/result.h"
#include "base/task.h"
#include "disk/event_loop.h"
#include "disk/storage_device.h"
#include "fs/filesystem.h"

namespace corral {

class SoleVolume {
 public:
  /// Opens the device after no node was found alive on it; EBUSY with who it is. From now on SIGINT and SIGTERM only
  /// ask for a stop.
  static Result<std::unique_ptr<SoleVolume>> open(const std::string& name, bool read_only);
  ~SoleVolume();
  SoleVolume(const SoleVolume&) = delete;
  SoleVolume& operator=(const SoleVolume&) = delete;

  EventLoop& loop() { return loop_; }
  Device& device() { return *device_; }
  /// Requested by SIGINT and SIGTERM.
  std::stop_token stop() const { return stop_.get_token(); }

  /// Mounts the volume, which replays its journals, with this one as its own; runs the work, which ends with ECANCELED
  /// soon after a stop was requested; unmounts. The work's error first, then what could not be written at the end.
  using Work = std::function<Task<Result<>>(Filesystem& filesystem)>;
  Result<> mounted(MountOptions options, JournalId journal, const Work& work);

 private:
  SoleVolume() = default;

  EventLoop loop_;
  std::stop_source stop_;
  std::unique_ptr<EventLoop::Watch> signals_;
  std::unique_ptr<StorageDevice> device_;
};

/// Has the request (fuse/mount_commands.h) done: by the mount at that mount point, or, where `target` is a device, by a
/// mount of this program's own.
Result<nlohmann::json> command_volume(const std::string& target, const nlohmann::json& request);

}  // namespace corral
