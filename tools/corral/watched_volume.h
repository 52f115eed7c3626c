/// Looking at a volume that others may be using, with a deadline on every answer of the disk.
#pragma once

#include <string>

#include "disk/event_loop.h"
#include "disk/open_device.h"
#include "offline/volume_reader.h"
#include "tools/corral/answer_deadline.h"
#include "tools/corral/mounts.h"

namespace corral {

/// The device behind a mount point of this host; else the name as it is.
inline std::string device_behind(const std::string& target) {
  if (!names_path(target)) return target;
  const auto mount = mount_at(target);
  if (!mount) return target;
  // The mount's process knows the name of a disk behind iSCSI.
  const auto answer = mount->ask({{"command", "status"}});
  return answer ? answer->value("device", mount->device) : mount->device;
}

/// Opens the device for reading, runs the task that work(executor, volume) makes, and closes it.
template <class Work>
Result<> with_watched_volume(const std::string& name, Work work) {
  EventLoop loop;
  AnswerDeadline deadline(loop.executor());
  StorageOptions options;
  options.read_only = true;
  options.exclusive = false;
  TRY(auto device, loop.run_until_done(deadline.wait_for(open_device(loop, name, options), name + ": opening it")));
  DeadlineDevice watched(*device, deadline);
  auto volume = loop.run_until_done(VolumeReader::open(watched));
  Result<> done = volume ? loop.run_until_done(work(loop.executor(), *volume)) : std::unexpected(volume.error());
  loop.run_until_done(deadline.wait_for(device->close(), name + ": closing it"));
  return done;
}

}  // namespace corral
