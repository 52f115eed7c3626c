/// The contents of a disk in memory: sparse, zero where nothing was written, and cheap to copy, for copies share pages
/// until one of them writes. Made for tens of thousands of variants of one volume.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>

#include "base/result.h"

namespace corral {

class DiskImage {
 public:
  explicit DiskImage(std::uint64_t size_bytes) : size_bytes_(size_bytes) {}

  /// Reads a raw image file; holes stay holes.
  static Result<DiskImage> load(const std::string& path);
  /// Writes a raw, sparse image file in place of whatever the path holds.
  Result<> save(const std::string& path) const;

  std::uint64_t size_bytes() const { return size_bytes_; }
  /// Memory that the pages would take if they were not shared.
  std::uint64_t stored_bytes() const;

  /// Ranges must lie within the disk (checked).
  void read(std::uint64_t offset_bytes, std::span<std::byte> into) const;
  void write(std::uint64_t offset_bytes, std::span<const std::byte> from);
  /// Zero gives pages back.
  void fill(std::uint64_t offset_bytes, std::uint64_t length_bytes, std::byte value);

  /// Same size and contents; pages that are shared are not compared.
  bool operator==(const DiskImage& other) const;

 private:
  static constexpr std::uint64_t kPageBytes = 4096;
  static constexpr std::uint64_t kPagesPerRegion = 256;
  static constexpr std::uint64_t kRegionBytes = kPageBytes * kPagesPerRegion;
  using Page = std::array<std::byte, kPageBytes>;
  using Region = std::array<std::shared_ptr<Page>, kPagesPerRegion>;

  /// Null where the page is all zero.
  const Page* find_page(std::uint64_t page_number) const;
  std::shared_ptr<Page>& own_slot(std::uint64_t page_number);
  Page& own_page(std::uint64_t page_number);
  void clear(std::uint64_t offset_bytes, std::uint64_t length_bytes);
  void check_range(std::uint64_t offset_bytes, std::uint64_t length_bytes) const;

  std::uint64_t size_bytes_;
  std::map<std::uint64_t, std::shared_ptr<Region>> regions_;
};

}  // namespace corral
