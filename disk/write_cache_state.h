/// Whether what a device has acknowledged is still there: writes that it may hold in a volatile cache, and whether that
/// cache has been lost.
///
/// A target that lost power with acknowledged writes in its cache answers the next flush with success, as if nothing
/// had happened. To write them again is no way out: other nodes may have overwritten those blocks meanwhile. So every
/// flush from then on fails, and whoever owns the volume starts from its journal.
#pragma once

#include <algorithm>
#include <cstdint>

#include "disk/reservation.h"

namespace corral {

class WriteCacheState {
 public:
  /// A write that may be in the cache only was acknowledged.
  void note_write() { ++written_; }

  /// What a flush that begins now will cover; for end_flush(), when it has succeeded.
  using Mark = std::uint64_t;
  Mark begin_flush() const { return written_; }
  void end_flush(Mark covered) { flushed_ = std::max(flushed_, covered); }

  /// The cache's contents are gone, or may be.
  void note_loss() { lost_ |= written_ != flushed_; }
  /// Acknowledged writes were lost; for good.
  bool lost() const { return lost_; }

 private:
  std::uint64_t written_ = 0;
  std::uint64_t flushed_ = 0;
  bool lost_ = false;
};

/// Evidence by which a disk that answers again after a lost connection shows that it has not lost power meanwhile, for
/// many targets greet every new session with "power on or reset". PRGENERATION only grows, and is 0 after a power on; a
/// registration without APTPL does not outlive one.
struct PowerWitness {
  std::uint32_t generation = 0;  ///< 0: no evidence
  ReservationKey own_key{};      ///< registered without APTPL; 0: none

  bool vouches_for(const RegisteredKeys& now) const {
    return generation != 0 && now.generation >= generation && (own_key.value == 0 || now.contains(own_key));
  }
};

}  // namespace corral
