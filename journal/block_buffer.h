/// Memory for the bytes of one block, aligned to the block's size, which is what a device transfer needs at least.
///
/// Single blocks from aligned_alloc cost twice their size and more (a block of 512 bytes sixteen times); a cache is
/// made of nothing else. So they are carved out of large pieces and kept for reuse, a list for each block size; a
/// thread has its own.
#pragma once

#include <cstddef>
#include <span>

namespace corral {

class BlockBuffer {
 public:
  /// `bytes`: a block size, 512 to 4096. Contents are undefined.
  explicit BlockBuffer(std::size_t bytes);
  BlockBuffer(const BlockBuffer&) = delete;
  BlockBuffer& operator=(const BlockBuffer&) = delete;
  ~BlockBuffer();

  std::size_t size() const { return size_; }
  std::byte* data() { return data_; }
  const std::byte* data() const { return data_; }
  std::span<std::byte> span() { return {data_, size_}; }
  std::span<const std::byte> span() const { return {data_, size_}; }

 private:
  std::byte* data_;
  std::size_t size_;
};

}  // namespace corral
