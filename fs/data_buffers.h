/// Memory for file data on its way to the disk, kept for reuse: fresh memory costs a page fault per 4 KiB, which is
/// more than copying the data.
#pragma once

#include <array>
#include <cstddef>
#include <vector>

#include "base/aligned_buffer.h"

namespace corral {

class DataBuffers {
 public:
  static constexpr std::size_t kLeastBytes = 4096;
  static constexpr std::size_t kMostBytes = 1u << 20;

  /// At least so many bytes (at most kMostBytes) of undefined contents; size() is a power of two.
  AlignedBuffer take(std::size_t bytes);
  /// Takes back what take() gave, or an empty buffer.
  void give(AlignedBuffer buffer);
  /// Lets go of memory that is not needed now.
  void trim();

 private:
  static constexpr std::size_t kClasses = 9;
  static constexpr std::size_t kKeptBytesMost = 64u << 20;
  static std::size_t class_of(std::size_t bytes);

  std::array<std::vector<AlignedBuffer>, kClasses> free_;
  std::size_t kept_bytes_ = 0;
};

}  // namespace corral
