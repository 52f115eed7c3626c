/// The ways of a cluster's node to the volume's disk.
#pragma once

#include "disk/kept_memory_device.h"
#include "disk/write_gate.h"

namespace corral {

struct NodeDevices {
  /// The device outlives it, and has completed all operations, or is about to be destroyed, when this is destroyed.
  NodeDevices(Executor& executor, Device& device)
      : area(executor, device), writes(executor, device), volume(executor, writes) {}

  /// For heartbeats, views and reservations, which nothing holds back.
  KeptMemoryDevice area;
  /// For the filesystem: held back while the node's lease has run out, shut when the node is lost.
  WriteGate writes;
  /// For replaying journals: as `writes`, for coroutines that end with the node while they wait for the device.
  KeptMemoryDevice volume;
};

}  // namespace corral
