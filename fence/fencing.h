/// How a node that died, or is cut off, is kept from writing to the shared disk: which way a disk offers and the
/// cluster's settings want, and the fencer of that way.
///
/// Every life of a node has a key of its own, so that removing an old life's never hits its successor.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/log.h"
#include "base/result.h"
#include "base/task.h"
#include "cluster/area.h"
#include "cluster/fencer.h"
#include "disk/device.h"
#include "disk/program_runner.h"
#include "disk/write_gate.h"

namespace corral {

using cluster::FencingWay;

/// The key of a member's life, for the disk and for its slot in the cluster area; never 0. The lowest seven bits are
/// the node's number plus one; two bits tell the way (cluster::way_of_key), so that nodes that fence in different ways
/// notice it.
std::uint64_t fencing_key(const cluster::Uuid& cluster, Member member, FencingWay way);

/// What fencers work with; all outlive the fencer.
struct FencingParts {
  Executor& executor;
  cluster::ClusterArea area;  ///< on the disk that nodes are to be kept from
  WriteGate& writes;          ///< through which this node's filesystem writes to it
  ProgramRunner& programs;    ///< for fence agents
  std::string node_name;      ///< of this node
  Logger log;
};

/// The fencer for this cluster and disk:
///
///     an image file of this host's own   life locks, whatever the settings say (life_fencer.h)
///     fence=scsi-pr                      persistent reservations (reservation_fencer.h)
///     fence=agent:NAME                   a fence agent (agent_fencer.h)
///     fence=manual                       an operator (manual_fencer.h)
///
/// EOPNOTSUPP where the settings want reservations and the disk has none; ENOENT where this host lacks the fence agent.
Task<Result<std::unique_ptr<cluster::Fencer>>> choose_fencer(FencingParts parts, cluster::Header header);

}  // namespace corral
