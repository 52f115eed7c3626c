/// The volume's own files: the master directory and all below it.
#pragma once

#include <optional>
#include <set>
#include <vector>

#include "fsck/volume.h"

namespace corral::fsck {

/// What passes before have found to be written into system files.
struct SystemRepairs {
  std::optional<std::vector<ondisk::ResourceGroupIndexEntry>> index{};  ///< the right rindex, decided
  std::set<BlockNo> journals_to_clear{};
};

/// Makes the root and the master directory anew, at their old places, where they were lost; their names are then
/// gathered as those of any damaged directory. Before rebuild_directories().
Task<Result<>> ensure_top_directories(Volume& volume);

/// Everything that a mount needs is there and of the right shape: jindex with its journals, per_node with the files of
/// each journal, inum, statfs, rindex, quota. What has lost its name gets it back, what is lost is made anew.
Task<Result<>> check_system_files(Volume& volume, SystemRepairs repairs);

}  // namespace corral::fsck
