/// What a node needs of a disk and of the volume on it. Nothing is written, and no reservation is touched.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cluster/area_format.h"
#include "disk/event_loop.h"
#include "tools/doctor/finding.h"

namespace corral::doctor {

/// A node that has a slot, as the network checks need it.
struct Peer {
  std::string name;
  std::uint16_t port = 0;
  std::vector<cluster::Address> addresses;
};

/// What stands on the disk of the cluster.
struct ClusterFacts {
  std::uint16_t port = 0;
  std::uint32_t failure_timeout_ms = 0;
  std::vector<Peer> occupied;  ///< slots in use; whether their nodes live is another question
};

/// Opens the device and looks at it and its volume: sizes, alignment, caches, journals, slots, clocks. Gives the
/// cluster's facts where the volume has a cluster area.
std::optional<ClusterFacts> check_disk(const std::string& device, Findings& findings);

/// Persistent reservations: what the disk can do, and whose keys it knows.
void check_reservations(const std::string& device, Findings& findings);

/// Who lives on the volume, in the disk's own words: takes up to one and a half failure timeouts.
std::vector<Peer> check_members(const std::string& device, Findings& findings);

void to_json(nlohmann::json& json, const Peer& peer);
void from_json(const nlohmann::json& json, Peer& peer);
void to_json(nlohmann::json& json, const ClusterFacts& facts);
void from_json(const nlohmann::json& json, ClusterFacts& facts);

}  // namespace corral::doctor
