/// How many dinodes of a directory's entries are worth reading before their names are looked up.
///
/// Whoever looks up one name after another in a directory (stat of every file, a path list) waits for one device read
/// each unless the dinodes are already there. Nobody says that he will do so; it shows in what reading ahead brings: a
/// few entries are read after the first misses, and each lookup that finds its dinode in memory earns more. Where
/// lookups pick few names of many, nothing is earned and reading ahead ends.
#pragma once

#include <algorithm>
#include <cstddef>
#include <utility>

#include "fs/directory_cookie.h"

namespace corral {

class LookupAhead {
 public:
  /// Entries read at a time: enough for neighbours on the device to be read together, little beside any cache.
  static constexpr std::size_t kMostEntries = 2048;

  /// A name was looked up whose dinode was in memory, or was not. Returns for how many entries, from next() on, the
  /// dinodes are to be read ahead now.
  std::size_t note(bool in_memory) {
    if (in_memory) {
      if (misses_ >= kFirstMisses) earned_ = std::min(earned_ + kEarnedByHit, kMostEntries);
      return 0;
    }
    if (++misses_ == kFirstMisses) earned_ = kFirstEntries;
    return misses_ < kFirstMisses ? 0 : std::exchange(earned_, 0);
  }
  DirectoryCookie next() const { return next_; }
  /// Reading ahead has come so far. At the directory's end it begins anew, with the first misses to come.
  void advance(DirectoryCookie next) {
    next_ = next;
    if (next_ == 0) *this = LookupAhead();
  }

 private:
  static constexpr std::size_t kFirstMisses = 4;
  static constexpr std::size_t kFirstEntries = 128;
  static constexpr std::size_t kEarnedByHit = 256;

  DirectoryCookie next_ = 0;
  std::size_t misses_ = 0;
  std::size_t earned_ = 0;
};

}  // namespace corral
