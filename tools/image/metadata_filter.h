/// What of a block may leave the house: metadata, and nothing that users keep in it.
#pragma once

#include <cstdint>
#include <span>

#include "base/strong.h"
#include "ondisk/layout.h"

namespace corral::image {

struct FilterOptions {
  /// Keep what users' files hold within metadata: short files, which stand behind their dinodes.
  bool keep_contents = false;
  /// Overwrite targets of symbolic links and values of extended attributes, which are metadata to GFS2.
  bool blank = false;
};

/// Overwrites what is not to be saved of a block that begins as metadata: contents of short files that are not the
/// system's with zeros, and, with `blank`, targets with x and values with zeros; lengths stay. Any bytes will do.
/// `number`: the block's own. `system`: the dinode of a system file, whatever its flags say.
void filter_metadata(std::span<std::byte> block, BlockNo number, bool system, FilterOptions options);

/// Of a block that something takes for metadata: whether it is, or was before one field of its header was damaged.
bool looks_like_metadata(std::span<const std::byte> block);

/// Zeroes the cluster's secret wherever a header of a cluster area stands in the block (at a multiple of 512 bytes),
/// and corrects its checksum: one that was right is right again, one that was wrong stays wrong.
void remove_secret(std::span<std::byte> block);

}  // namespace corral::image
