/// The records of the cluster area (docs/SPEC.md), on a volume whose nodes are all gone.
#pragma once

#include "fsck/volume.h"

namespace corral::fsck {

/// Header and view exist twice: a copy that is damaged is written from the other one. Where both are, what can be
/// derived is: a view from the slots, but no header, which holds the cluster's secret. A damaged slot becomes a free
/// one. Records of a newer version are left alone. After check_system_files(): the area's file must have its name.
Task<Result<>> check_cluster_area(Volume& volume);

}  // namespace corral::fsck
