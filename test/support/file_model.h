/// What a regular file of GFS2 must contain, and which of its blocks exist, after the operations done to it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <vector>

#include "ondisk/geometry.h"

namespace corral::test {

class FileModel {
 public:
  explicit FileModel(const ondisk::Geometry& geometry) : geometry_(geometry) {}

  std::uint64_t size() const { return size_; }
  bool stuffed() const { return stuffed_; }
  std::uint64_t data_blocks() const { return stuffed_ ? 0 : blocks_.size(); }

  void write(std::uint64_t offset, std::span<const std::byte> data) {
    if (offset + data.size() > geometry_.stuffed_bytes()) stuffed_ = false;
    for (std::size_t i = 0; i < data.size();) {
      auto& block = make(block_of(offset + i));
      std::size_t at = in_block(offset + i);
      std::size_t count = std::min(data.size() - i, block.size() - at);
      std::copy_n(data.begin() + i, count, block.begin() + at);
      i += count;
    }
    size_ = std::max(size_, offset + data.size());
  }

  void truncate(std::uint64_t size) {
    if (size > geometry_.stuffed_bytes()) stuffed_ = false;
    if (size < size_) {
      zero(size, bytes_of(geometry_.blocks_for(size)));
      blocks_.erase(blocks_.lower_bound(geometry_.blocks_for(size)), blocks_.end());
      if (size == 0) stuffed_ = true;
    }
    size_ = size;
  }

  void punch(std::uint64_t offset, std::uint64_t length) {
    zero(offset, offset + length);
    if (stuffed_) return;
    auto first = blocks_.lower_bound(geometry_.blocks_for(offset));
    auto last = blocks_.lower_bound(std::max(geometry_.blocks_for(offset), block_of(offset + length)));
    blocks_.erase(first, last);
  }

  void allocate(std::uint64_t offset, std::uint64_t length, bool keep_size) {
    const std::uint64_t end = offset + length;
    if (end > geometry_.stuffed_bytes()) stuffed_ = false;
    if (!stuffed_)
      for (std::uint64_t block = block_of(offset); block <= block_of(end - 1); ++block)
        make(block);
    if (!keep_size) size_ = std::max(size_, end);
  }

  void zero(std::uint64_t begin, std::uint64_t end) {
    for (auto& [number, block] : blocks_) {
      std::uint64_t from = std::max(begin, bytes_of(number));
      std::uint64_t to = std::min(end, bytes_of(number) + block.size());
      if (from < to)
        std::fill(block.begin() + in_block(from), block.begin() + in_block(from) + (to - from), std::byte{0});
    }
  }

  std::vector<std::byte> read(std::uint64_t offset, std::uint64_t length) const {
    if (offset >= size_) return {};
    std::vector<std::byte> out(std::min(length, size_ - offset));
    for (auto place = blocks_.lower_bound(block_of(offset)); place != blocks_.end(); ++place) {
      std::uint64_t from = std::max(offset, bytes_of(place->first));
      std::uint64_t to = std::min(offset + out.size(), bytes_of(place->first) + place->second.size());
      if (from >= to) break;
      std::copy_n(place->second.begin() + in_block(from), to - from, out.begin() + (from - offset));
    }
    return out;
  }

  /// SEEK_DATA, SEEK_HOLE; nothing: ENXIO.
  std::optional<std::uint64_t> seek(std::uint64_t offset, bool want_data) const {
    if (offset >= size_) return std::nullopt;
    if (stuffed_) return want_data ? offset : size_;
    if (want_data) {
      auto next = blocks_.lower_bound(block_of(offset));
      if (next == blocks_.end() || bytes_of(next->first) >= size_) return std::nullopt;
      return std::max(offset, bytes_of(next->first));
    }
    std::uint64_t block = block_of(offset);
    while (blocks_.contains(block))
      ++block;
    return std::min(size_, std::max(offset, bytes_of(block)));
  }

 private:
  std::uint64_t block_of(std::uint64_t offset) const { return offset >> geometry_.block_shift(); }
  std::uint64_t bytes_of(std::uint64_t block) const { return block << geometry_.block_shift(); }
  std::size_t in_block(std::uint64_t offset) const { return offset & (geometry_.block_size() - 1); }
  std::vector<std::byte>& make(std::uint64_t block) {
    auto& bytes = blocks_[block];
    bytes.resize(geometry_.block_size());
    return bytes;
  }

  ondisk::Geometry geometry_;
  std::uint64_t size_ = 0;
  bool stuffed_ = true;
  /// Blocks that exist; of a stuffed file those that hold its contents.
  std::map<std::uint64_t, std::vector<std::byte>> blocks_;
};

}  // namespace corral::test
