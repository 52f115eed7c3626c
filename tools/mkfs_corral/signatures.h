/// What is on a device already, as libblkid knows it: filesystems, RAID and LVM members, partition tables.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"

namespace corral::mkfs {

/// For people, one text each: "a partition table (gpt)", "ext4 (label: data)". Empty if nothing is recognised.
Result<std::vector<std::string>> find_signatures(const std::string& path);

/// Erases every signature, so that nobody takes the device for what it was: some lie where a new volume does not write.
Result<> wipe_signatures(const std::string& path);

}  // namespace corral::mkfs
