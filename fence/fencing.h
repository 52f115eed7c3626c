/// How a node that died, or is cut off, is kept from writing to the shared disk: which way a disk offers, and the
/// fencer of that way.
///
/// Every life of a node has a key of its own, so that removing an old life's never hits its successor.
#pragma once

#include <cstdint>
#include <memory>

#include "base/log.h"
#include "base/result.h"
#include "base/task.h"
#include "cluster/area_format.h"
#include "cluster/fencer.h"
#include "disk/device.h"
#include "disk/write_gate.h"

namespace corral {

enum class FencingWay : std::uint8_t {
  reservations,  ///< persistent reservations (reservation_fencer.h)
  life_locks,    ///< all nodes are processes of this host, on one image file (life_fencer.h)
};

/// The key of a member's life, for the disk and for its slot in the cluster area; never 0. The lowest byte is the
/// node's number plus one, the highest bit tells the way, so that nodes that fence in different ways notice it.
std::uint64_t fencing_key(const cluster::Uuid& cluster, Member member, FencingWay way);

/// The fencer for this disk. EOPNOTSUPP where no way is known by which a node could be kept from writing to it.
/// `writes`: through which all else of this node reaches that disk; outlives the fencer.
Task<Result<std::unique_ptr<cluster::Fencer>>> choose_fencer(Executor& executor, Device& device, WriteGate& writes,
                                                             cluster::Uuid cluster, Logger log);

}  // namespace corral
