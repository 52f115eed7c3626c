/// The real parts under a ClusterNode: the volume's cluster area, the disk's way of fencing, TCP links on an event
/// loop.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "cluster/tls_links.h"
#include "disk/event_loop.h"
#include "disk/spawned_programs.h"
#include "fence/fencing.h"
#include "node/cluster_node.h"
#include "node/node_devices.h"
#include "node/node_settings.h"

namespace corral {

class ClusterMount {
 public:
  /// A node of the cluster of the volume on the device, ready for ClusterNode::join(). Errors say what is wrong and
  /// what to do about it. Loop, devices and log outlive it. Destroying it destroys coroutines that wait for them.
  static Task<Result<std::unique_ptr<ClusterMount>>> prepare(EventLoop& loop, NodeDevices& devices,
                                                             NodeSettings settings, LogSink& log,
                                                             std::uint64_t random_seed);
  ClusterNode& node() { return *node_; }

 private:
  ClusterMount() = default;
  std::unique_ptr<SpawnedPrograms> programs_;
  std::unique_ptr<cluster::Fencer> fencer_;
  std::unique_ptr<cluster::TlsLinks> links_;
  std::unique_ptr<ClusterNode> node_;
};

/// Those of interfaces that are up, IPv4 first, as many as a slot can hold; no loopback, no link-local ones, which mean
/// nothing on another host. Where there are none: the loopback's.
Result<std::vector<cluster::Address>> addresses_of_host();

/// Addresses as a slot carries them. EINVAL with the text that is none, or where there are more than a slot can hold.
Result<std::vector<cluster::Address>> parse_addresses(const std::vector<std::string>& texts);

}  // namespace corral
