/// Names for inodes of which only the number is known.
#pragma once

#include <map>
#include <set>
#include <string>

#include "base/result.h"
#include "base/task.h"
#include "offline/volume_reader.h"

namespace corral {

/// A path from the volume's root for each of the inodes that has one on the disk, by their numbers: directories are
/// read one after another, nearest to the root first, until all were found. What the nodes have not written yet is not
/// there, and damaged directories are passed over. Errors: the device's.
Task<Result<std::map<BlockNo, std::string>>> find_paths(const VolumeReader& volume, std::set<BlockNo> wanted);

}  // namespace corral
