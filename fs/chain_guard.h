/// A guard for walks along blocks that point to each other.
#pragma once

#include <cstdint>

#include "base/strong.h"

namespace corral {

/// Notices a chain of blocks that runs in a circle: remembers one block, a later one each time that the number of steps
/// has doubled (R. Brent), so that the walk ends after a few rounds at the most.
class ChainGuard {
 public:
  /// False if the chain came back to a block where it has been.
  bool visit(BlockNo block) {
    if (block == remembered_) return false;
    if (++steps_ == limit_) {
      remembered_ = block;
      limit_ *= 2;
    }
    return true;
  }

 private:
  BlockNo remembered_;
  std::uint64_t steps_ = 0;
  std::uint64_t limit_ = 1;
};

}  // namespace corral
