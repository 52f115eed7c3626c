/// Changing the superblock of a volume that is not mounted anywhere.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "base/result.h"
#include "base/task.h"
#include "offline/volume_reader.h"

namespace corral {

/// Fields of struct gfs2_sb that may change; what is not given stays. The texts fit their fields.
struct SuperblockChange {
  std::optional<std::string> lock_protocol{};
  std::optional<std::string> lock_table{};
  std::optional<std::array<std::uint8_t, 16>> uuid{};
};

/// Written through, in one sector: it changes wholly or not at all.
Task<Result<>> change_superblock(const VolumeReader& volume, SuperblockChange change);

}  // namespace corral
