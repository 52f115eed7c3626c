#include "fs/data_buffers.h"

#include <algorithm>
#include <bit>

#include "base/check.h"

namespace corral {

std::size_t DataBuffers::class_of(std::size_t bytes) {
  static_assert(kLeastBytes << (kClasses - 1) == kMostBytes);
  CHECK_INVARIANT(bytes <= kMostBytes);
  std::size_t size = std::bit_ceil(std::max(bytes, kLeastBytes));
  return static_cast<std::size_t>(std::countr_zero(size) - std::countr_zero(kLeastBytes));
}

AlignedBuffer DataBuffers::take(std::size_t bytes) {
  std::size_t size_class = class_of(bytes);
  auto& free = free_[size_class];
  if (free.empty()) return AlignedBuffer(kLeastBytes << size_class, false);
  AlignedBuffer buffer = std::move(free.back());
  free.pop_back();
  kept_bytes_ -= buffer.size();
  return buffer;
}

void DataBuffers::give(AlignedBuffer buffer) {
  if (buffer.size() == 0 || kept_bytes_ + buffer.size() > kKeptBytesMost) return;
  kept_bytes_ += buffer.size();
  free_[class_of(buffer.size())].push_back(std::move(buffer));
}

void DataBuffers::trim() {
  for (auto& free : free_) {
    free.clear();
    free.shrink_to_fit();
  }
  kept_bytes_ = 0;
}

}  // namespace corral
