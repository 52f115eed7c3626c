/// Whether nodes can reach each other over the network.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/clock.h"
#include "tools/doctor/disk_checks.h"
#include "tools/doctor/finding.h"

namespace corral::doctor {

/// An address that another host could reach.
void check_addresses(Findings& findings);

/// The port can be listened on. `used_here`: a mount of this host has it.
void check_port(std::uint16_t port, bool used_here, Findings& findings);

/// A TCP connection to each of the nodes, over any of its addresses, all at once and within `limit`; it is closed
/// again without a word.
void check_peers(const std::vector<Peer>& peers, Duration limit, Findings& findings);

}  // namespace corral::doctor
