#include "journal/block_buffer.h"

#include <array>
#include <bit>
#include <cstdlib>
#include <new>
#include <utility>
#include <vector>

#include "base/aligned_buffer.h"
#include "base/check.h"
#include "base/sanitizers.h"

namespace corral {

namespace {
constexpr std::size_t kLeastBytes = 512;
constexpr std::size_t kMostBytes = 4096;

std::byte* allocate(std::size_t alignment, std::size_t bytes) {
  auto* memory = static_cast<std::byte*>(std::aligned_alloc(alignment, bytes));
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

#if CORRAL_SANITIZED
// The sanitizer sees every use after free.
std::byte* take(std::size_t bytes) {
  return allocate(bytes, bytes);
}
void give(std::byte* memory, std::size_t) noexcept {
  std::free(memory);
}
#else
constexpr std::size_t kPieceBytes = 256u << 10;

struct FreeBlock {
  FreeBlock* next;
};

struct Pool {
  std::array<FreeBlock*, std::bit_width(kMostBytes / kLeastBytes)> lists{};
  std::vector<std::byte*> pieces;

  Pool() = default;
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;
  ~Pool() {
    for (std::byte* piece : pieces)
      std::free(piece);
  }
  FreeBlock*& list_of(std::size_t bytes) { return lists[std::bit_width(bytes / kLeastBytes) - 1]; }
  void carve(std::size_t bytes) {
    std::byte* piece = pieces.emplace_back(allocate(AlignedBuffer::kAlignment, kPieceBytes));
    FreeBlock*& list = list_of(bytes);
    for (std::size_t offset = kPieceBytes; offset > 0; offset -= bytes)
      list = new (piece + offset - bytes) FreeBlock{list};
  }
};
thread_local Pool pool;

std::byte* take(std::size_t bytes) {
  FreeBlock*& list = pool.list_of(bytes);
  if (list == nullptr) pool.carve(bytes);
  return reinterpret_cast<std::byte*>(std::exchange(list, list->next));
}
void give(std::byte* memory, std::size_t bytes) noexcept {
  FreeBlock*& list = pool.list_of(bytes);
  list = new (memory) FreeBlock{list};
}
#endif
}  // namespace

BlockBuffer::BlockBuffer(std::size_t bytes) : data_(nullptr), size_(bytes) {
  CHECK_INVARIANT(std::has_single_bit(bytes) && bytes >= kLeastBytes && bytes <= kMostBytes);
  data_ = take(bytes);
}

BlockBuffer::~BlockBuffer() {
  give(data_, size_);
}

}  // namespace corral
