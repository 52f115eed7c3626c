/// What a mount may be told about its node.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace corral {

/// What an administrator may say about this node; what is empty or 0 is found out or taken from the volume.
struct NodeSettings {
  std::string name;                    ///< the host's name
  std::vector<std::string> addresses;  ///< IPv4 or IPv6; else all that the host has, loopback excepted
  std::uint16_t port = 0;              ///< TCP; else the cluster's
};

}  // namespace corral
