#include "fs/bitmap.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "base/check.h"

namespace corral {

namespace {

constexpr std::uint32_t kBlocksPerWord = 32;
constexpr std::uint64_t kLowBits = 0x5555555555555555u;  ///< the lower bit of each block's two

std::uint64_t pattern_of(ondisk::BlockState state) {
  return kLowBits * std::to_underlying(state);
}

/// Both bits of the blocks [first, end) of a word, 0 <= first < end <= 32.
std::uint64_t pair_mask(std::uint32_t first, std::uint32_t end) {
  const std::uint64_t upto = end == kBlocksPerWord ? ~std::uint64_t{0} : (std::uint64_t{1} << (2 * end)) - 1;
  return upto & (~std::uint64_t{0} << (2 * first));
}

/// The lower bit of every block of the word that is in the state.
std::uint64_t matches(std::uint64_t word, std::uint64_t pattern) {
  const std::uint64_t equal = ~(word ^ pattern);
  return equal & (equal >> 1) & kLowBits;
}

std::uint32_t first_block(std::uint64_t low_bits) {
  return static_cast<std::uint32_t>(std::countr_zero(low_bits)) / 2;
}

/// Calls change(word index, mask of pairs) for the words that [first, first + count) touches.
template <class Change>
void for_masked_words(std::uint32_t first, std::uint32_t count, Change change) {
  const std::uint32_t end = first + count;
  for (std::uint32_t at = first; at < end;) {
    const std::uint32_t word = at / kBlocksPerWord;
    const std::uint32_t stop = std::min(end, (word + 1) * kBlocksPerWord);
    change(word, pair_mask(at % kBlocksPerWord, stop - word * kBlocksPerWord));
    at = stop;
  }
}

}  // namespace

void HeldBlocks::add(std::uint32_t first, std::uint32_t count, std::uint32_t blocks) {
  CHECK_INVARIANT(first + count <= blocks);
  if (!words_) words_ = std::make_unique<std::uint64_t[]>((blocks + kBlocksPerWord - 1) / kBlocksPerWord);
  for_masked_words(first, count, [this](std::uint32_t word, std::uint64_t mask) {
    CHECK_INVARIANT((words_[word] & mask & kLowBits) == 0);
    words_[word] |= mask & kLowBits;
  });
  count_ += count;
}

void HeldBlocks::remove(std::uint32_t first, std::uint32_t count) {
  CHECK_INVARIANT(count <= count_);
  for_masked_words(first, count, [this](std::uint32_t word, std::uint64_t mask) {
    CHECK_INVARIANT((words_[word] & mask) == (mask & kLowBits));
    words_[word] &= ~mask;
  });
  count_ -= count;
  if (count_ == 0) words_.reset();
}

std::uint64_t BitmapView::load(std::size_t word) const {
  const std::size_t offset = word * sizeof(std::uint64_t);
  std::uint64_t value = 0;
  static_assert(std::endian::native == std::endian::little);
  if (offset + sizeof(value) <= bytes_.size()) [[likely]]
    std::memcpy(&value, bytes_.data() + offset, sizeof(value));
  else
    std::memcpy(&value, bytes_.data() + offset, bytes_.size() - offset);
  return value;
}

std::uint64_t BitmapView::free_blocks(std::size_t word, const HeldBlocks& held) const {
  return matches(load(word), 0) & ~held.word(word);
}

ondisk::BlockState BitmapView::at(std::uint32_t index) const {
  CHECK_INVARIANT(index < blocks());
  const auto byte = std::to_integer<std::uint32_t>(bytes_[index / ondisk::kBlocksPerBitmapByte]);
  return static_cast<ondisk::BlockState>((byte >> (index % ondisk::kBlocksPerBitmapByte * 2)) & 3);
}

StateCounts BitmapView::counts() const {
  std::uint32_t used = 0;
  std::uint32_t unlinked = 0;
  std::uint32_t dinodes = 0;
  // The zeros that load() adds behind the last byte count as free blocks, so free ones are not counted but inferred.
  for (std::size_t word = 0; word * sizeof(std::uint64_t) < bytes_.size(); ++word) {
    const std::uint64_t bits = load(word);
    const std::uint64_t low = bits & kLowBits;
    const std::uint64_t high = (bits >> 1) & kLowBits;
    used += static_cast<std::uint32_t>(std::popcount(low & ~high));
    unlinked += static_cast<std::uint32_t>(std::popcount(high & ~low));
    dinodes += static_cast<std::uint32_t>(std::popcount(high & low));
  }
  return {blocks() - used - unlinked - dinodes, used, unlinked, dinodes};
}

std::uint32_t BitmapView::find(ondisk::BlockState state, std::uint32_t from) const {
  const std::uint64_t pattern = pattern_of(state);
  const std::uint32_t end = blocks();
  if (from >= end) return end;
  std::uint64_t wanted = pair_mask(from % kBlocksPerWord, kBlocksPerWord);
  for (std::uint32_t word = from / kBlocksPerWord; word * kBlocksPerWord < end; ++word) {
    if (const std::uint64_t found = matches(load(word), pattern) & wanted)
      return std::min(end, word * kBlocksPerWord + first_block(found));
    wanted = ~std::uint64_t{0};
  }
  return end;
}

bool BitmapView::all_in(ondisk::BlockState state, std::uint32_t first, std::uint32_t count) const {
  CHECK_INVARIANT(first + count <= blocks());
  const std::uint64_t pattern = pattern_of(state);
  bool all = true;
  for_masked_words(first, count,
                   [&](std::uint32_t word, std::uint64_t mask) { all = all && ((load(word) ^ pattern) & mask) == 0; });
  return all;
}

std::uint32_t BitmapView::find_free(std::uint32_t from, const HeldBlocks& held) const {
  const std::uint32_t end = blocks();
  if (from >= end) return end;
  std::uint64_t wanted = pair_mask(from % kBlocksPerWord, kBlocksPerWord);
  for (std::uint32_t word = from / kBlocksPerWord; word * kBlocksPerWord < end; ++word) {
    if (const std::uint64_t found = free_blocks(word, held) & wanted)
      return std::min(end, word * kBlocksPerWord + first_block(found));
    wanted = ~std::uint64_t{0};
  }
  return end;
}

std::uint32_t BitmapView::find_taken(std::uint32_t from, std::uint32_t end, const HeldBlocks& held) const {
  CHECK_INVARIANT(end <= blocks());
  if (from >= end) return end;
  std::uint64_t wanted = pair_mask(from % kBlocksPerWord, kBlocksPerWord);
  for (std::uint32_t word = from / kBlocksPerWord; word * kBlocksPerWord < end; ++word) {
    if (const std::uint64_t found = ~free_blocks(word, held) & kLowBits & wanted)
      return std::min(end, word * kBlocksPerWord + first_block(found));
    wanted = ~std::uint64_t{0};
  }
  return end;
}

BlockRun BitmapView::find_run(std::uint32_t from, std::uint32_t end, std::uint32_t wanted,
                              const HeldBlocks& held) const {
  CHECK_INVARIANT(end <= blocks());
  BlockRun best;
  std::uint32_t start = from;  // of the run that reaches up to `at`
  for (std::uint32_t at = from; at < end;) {
    const std::uint32_t word = at / kBlocksPerWord;
    const std::uint32_t limit = std::min(end, (word + 1) * kBlocksPerWord);
    const std::uint64_t free = free_blocks(word, held);
    while (at < limit) {
      const std::uint64_t rest = free >> (at % kBlocksPerWord * 2);
      if ((rest & 1) == 0) {
        start = at = std::min(limit, at + first_block(rest));
        continue;
      }
      at = std::min(limit, at + first_block(~rest & kLowBits));
      if (at - start > best.length) best = {start, at - start};
      if (best.length >= wanted) return best;
    }
  }
  return best;
}

void set_states(std::span<std::byte> bitmap, std::uint32_t first, std::uint32_t count, ondisk::BlockState state) {
  CHECK_INVARIANT(first + count <= bitmap.size() * ondisk::kBlocksPerBitmapByte);
  const std::uint64_t pattern = pattern_of(state);
  for_masked_words(first, count, [&](std::uint32_t word, std::uint64_t mask) {
    const std::size_t offset = word * sizeof(std::uint64_t);
    const std::size_t bytes = std::min(sizeof(std::uint64_t), bitmap.size() - offset);
    std::uint64_t value = 0;
    std::memcpy(&value, bitmap.data() + offset, bytes);
    value = (value & ~mask) | (pattern & mask);
    std::memcpy(bitmap.data() + offset, &value, bytes);
  });
}

}  // namespace corral
