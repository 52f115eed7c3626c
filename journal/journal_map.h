/// Where a journal's blocks lie on the device.
#pragma once

#include <cstdint>
#include <vector>

#include "base/check.h"
#include "base/strong.h"

namespace corral {

/// Maps journal blocks (0 to size-1) to device blocks. A journal is one extent as mkfs makes it, but may be several.
class JournalMap {
 public:
  struct Extent {
    std::uint32_t first;   ///< journal block
    BlockNo start;         ///< device block
    std::uint32_t length;  ///< blocks
  };

  /// Appends the next blocks of the journal; joins them to the last extent where they follow it on the device.
  void append(BlockNo start, std::uint32_t length);
  std::uint32_t size_blocks() const { return size_; }
  const std::vector<Extent>& extents() const { return extents_; }
  /// The device block of a journal block, and how many blocks follow it contiguously (itself included).
  struct Run {
    BlockNo start;
    std::uint32_t length;
  };
  Run run_at(std::uint32_t journal_block) const;
  BlockNo block_at(std::uint32_t journal_block) const { return run_at(journal_block).start; }

 private:
  std::vector<Extent> extents_;
  std::uint32_t size_ = 0;
};

}  // namespace corral
