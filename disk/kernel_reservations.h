/// Persistent reservations of a block device of the kernel's: a SCSI disk, a multipath device over such, an NVMe
/// namespace.
#pragma once

#include <memory>
#include <string>

#include "disk/event_loop.h"
#include "disk/reservation.h"

namespace corral {

/// Null where the device is none of these, or a partition: a reservation is of a whole disk. `descriptor` is the open
/// device; it is not kept.
std::unique_ptr<Reservations> open_kernel_reservations(EventLoop& loop, int descriptor, const std::string& name);

}  // namespace corral
