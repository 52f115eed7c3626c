/// Marks that a process puts on an image file and that the host's kernel takes away when the process can write to the
/// file no more: by them other processes of the host tell whether it lives.
///
/// Open file description locks (fcntl(2), F_OFD_SETLK) on the very description that all reads and writes go through: it
/// lives, and its locks with it, until the last request on it has ended, also where the process was killed.
#pragma once

#include <cstdint>

#include "base/result.h"

namespace corral {

class LifeLocks {
 public:
  virtual ~LifeLocks() = default;
  /// Puts the mark with this number on the file. EBUSY: another process has it.
  virtual Result<> take(std::uint64_t number) = 0;
  virtual Result<> give_up(std::uint64_t number) = 0;
  virtual Result<bool> taken_by_another(std::uint64_t number) const = 0;
};

}  // namespace corral
