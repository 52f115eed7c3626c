/// Blocks set aside in memory so that an inode's file grows contiguously while others are written at the same time.
#pragma once

#include <cstdint>

#include <boost/intrusive/set.hpp>

#include "base/strong.h"

namespace corral {

using AllocationWindowHook =
    boost::intrusive::set_base_hook<boost::intrusive::link_mode<boost::intrusive::auto_unlink>>;

/// Only a hint: other inodes keep away from the window as long as there is room elsewhere. Written by the allocator
/// alone; leaves its resource group's books when destroyed or reset. Lives in the Inode; not copied, not moved.
struct AllocationWindow : AllocationWindowHook {
  AllocationWindow() = default;
  AllocationWindow(const AllocationWindow&) = delete;
  AllocationWindow& operator=(const AllocationWindow&) = delete;

  BlockNo next;              ///< where the next block is looked for; 0: no idea yet
  std::uint32_t length = 0;  ///< blocks from `next` on that are set aside
  std::uint32_t grown = 0;   ///< blocks taken one behind the other, the measure of how much is set aside

  /// Gives the window back: when the last writer closes the file, when it is truncated.
  void reset() {
    unlink();
    next = BlockNo();
    length = 0;
    grown = 0;
  }
};

}  // namespace corral
