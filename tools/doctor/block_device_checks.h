/// What the kernel tells of a block device in sysfs: partitions, logical volumes, paths.
#pragma once

#include <cstdint>
#include <string>

#include "tools/doctor/finding.h"

namespace corral::doctor {

/// Whether the device is a whole disk, and is used over all of its paths. `sys` is /sys, or another folder in tests.
void check_block_device(const std::string& sys, std::uint32_t device_major, std::uint32_t device_minor,
                        Findings& findings);

}  // namespace corral::doctor
