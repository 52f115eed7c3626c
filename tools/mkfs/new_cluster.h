/// The identity of a new cluster, from the system's source of randomness.
#pragma once

#include "cluster/area_format.h"

namespace corral::mkfs {

/// A random UUID (version 4) and secret, and the usual settings.
cluster::Header new_cluster();

}  // namespace corral::mkfs
