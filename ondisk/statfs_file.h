/// The files of struct gfs2_statfs_change: the volume's totals, and what each node has counted and not moved there yet.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "base/result.h"
#include "base/strong.h"
#include "ondisk/geometry.h"
#include "ondisk/layout.h"

namespace corral::ondisk {

/// Corrupt unless the block is the sound dinode of a regular file that holds the counts itself.
Result<> check_statfs_file(std::span<const std::byte> block, BlockNo inode, const Geometry& geometry);

/// "Updated master statfs Total:..., after change [...]", as GFS2 tells it.
std::string describe_statfs_update(const StatfsChange& sum, const StatfsChange& change);

}  // namespace corral::ondisk
