#include "test/support/golden.h"

#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

namespace corral::test {

std::optional<std::filesystem::path> golden_folder() {
  const char* folder = std::getenv("CORRAL_GOLDEN");
  if (folder != nullptr && std::filesystem::is_directory(folder)) return folder;
  std::puts("SKIPPED: CORRAL_GOLDEN does not name a folder of golden volumes");
  return std::nullopt;
}

std::optional<GoldenImage> GoldenImage::unpack(const std::string& name) {
  auto folder = golden_folder();
  if (!folder) return std::nullopt;
  const std::filesystem::path packed = *folder / (name + ".xz");
  std::string path = std::filesystem::temp_directory_path() / "corral-golden-XXXXXX";
  const int file = ::mkstemp(path.data());
  if (file < 0) throw std::runtime_error("cannot make a temporary file like " + path);
  ::close(file);
  const std::string command = fmt::format("xz -dc '{}' | cp --sparse=always /dev/stdin '{}'", packed.string(), path);
  if (std::system(command.c_str()) != 0 || std::filesystem::file_size(path) == 0) {
    std::filesystem::remove(path);
    throw std::runtime_error("failed: " + command);
  }
  return GoldenImage(path);
}

GoldenImage::GoldenImage(std::filesystem::path path)
    : path_(std::move(path)),
      file_(::open(path_.c_str(), O_RDWR | O_CLOEXEC)),
      size_bytes_(std::filesystem::file_size(path_)) {
  if (file_ < 0) throw std::runtime_error("cannot open " + path_.string());
}

GoldenImage::GoldenImage(GoldenImage&& other) noexcept
    : path_(std::move(other.path_)), file_(std::exchange(other.file_, -1)), size_bytes_(other.size_bytes_) {
  other.path_.clear();
}

GoldenImage::~GoldenImage() {
  if (file_ < 0) return;
  ::close(file_);
  std::error_code ignored;
  std::filesystem::remove(path_, ignored);
}

std::vector<std::byte> GoldenImage::read(std::uint64_t offset_bytes, std::size_t length_bytes) const {
  std::vector<std::byte> bytes(length_bytes);
  if (::pread(file_, bytes.data(), bytes.size(), static_cast<off_t>(offset_bytes)) !=
      static_cast<ssize_t>(length_bytes))
    throw std::runtime_error(fmt::format("{}: cannot read {} bytes at {}", path_.string(), length_bytes, offset_bytes));
  return bytes;
}

void GoldenImage::write(std::uint64_t offset_bytes, std::span<const std::byte> bytes) const {
  if (::pwrite(file_, bytes.data(), bytes.size(), static_cast<off_t>(offset_bytes)) !=
      static_cast<ssize_t>(bytes.size()))
    throw std::runtime_error(
        fmt::format("{}: cannot write {} bytes at {}", path_.string(), bytes.size(), offset_bytes));
}

}  // namespace corral::test
