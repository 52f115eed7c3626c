/// Volumes made and filled by the kernel's own GFS2, in a folder named by the environment variable CORRAL_GOLDEN. Tests
/// that use them carry the tag [golden]; ctest runs those apart and reports them as skipped where the folder is absent.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace corral::test {

/// The folder of golden volumes; prints why and gives nothing where there is none.
std::optional<std::filesystem::path> golden_folder();

/// A private, sparse, writable copy of an image FOLDER/<name>.xz, e.g. "basic-4k/volume.img"; removed with the object.
class GoldenImage {
 public:
  /// Nothing where there is no golden folder. Throws std::runtime_error where the image cannot be unpacked.
  static std::optional<GoldenImage> unpack(const std::string& name);
  GoldenImage(GoldenImage&& other) noexcept;
  GoldenImage& operator=(GoldenImage&&) = delete;
  ~GoldenImage();

  const std::filesystem::path& path() const { return path_; }
  std::uint64_t size_bytes() const { return size_bytes_; }
  std::vector<std::byte> read(std::uint64_t offset_bytes, std::size_t length_bytes) const;
  void write(std::uint64_t offset_bytes, std::span<const std::byte> bytes) const;

 private:
  explicit GoldenImage(std::filesystem::path path);

  std::filesystem::path path_;
  int file_ = -1;
  std::uint64_t size_bytes_ = 0;
};

}  // namespace corral::test
