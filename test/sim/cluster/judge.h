/// Judges of what a simulated cluster leaves on its disk and in its trees.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/random.h"
#include "disk/disk_image.h"
#include "offline/journals.h"

namespace corral::sim {

class Simulation;

/// Where the journals of a volume lie.
struct VolumeMap {
  explicit VolumeMap(const DiskImage& volume);
  std::vector<OfflineJournal> journals;
  std::uint32_t block_shift = 0;
};

/// A volume that every node has unmounted: our checker finds nothing, nor does fsck.gfs2 if it is asked.
std::optional<std::string> check_clean_volume(const DiskImage& volume, bool with_fsck_gfs2);

/// A volume that a power cut has left: its journals can be replayed; replaying that is cut off and begun again ends in
/// the same; the next mount finds everything sound.
std::optional<std::string> check_crashed_volume(const DiskImage& volume, Random& random);

/// A volume that is frozen: nothing is to be replayed, and a mount of it, which frees what has no links, finds it
/// sound.
std::optional<std::string> check_frozen_volume(const DiskImage& volume);

/// Every tree of a single client holds what it must, seen from some node, whatever became of the node that it was made
/// on. Fails the run where not.
void check_private_trees(Simulation& simulation);

}  // namespace corral::sim
