/// System calls for users of mounts, with every failure an exception that names the call and the file.
#pragma once

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <set>
#include <stdexcept>
#include <string>

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file_descriptor.h"

namespace corral::test {

inline void expect(bool truth, const std::string& otherwise) {
  if (!truth) throw std::runtime_error(otherwise + "\n");
}
inline long must_call(long result, const std::string& what) {
  if (result < 0) throw std::runtime_error(fmt::format("{}: {}\n", what, std::strerror(errno)));
  return result;
}

inline FileDescriptor open_file(const std::string& path, int flags) {
  return FileDescriptor(static_cast<int>(must_call(::open(path.c_str(), flags | O_CLOEXEC, 0644), "open " + path)));
}
inline std::string contents(int descriptor, const std::string& path) {
  std::string text;
  char buffer[16384];
  for (;;) {
    const long got =
        must_call(::pread(descriptor, buffer, sizeof(buffer), static_cast<off_t>(text.size())), "pread " + path);
    if (got == 0) return text;
    text.append(buffer, static_cast<std::size_t>(got));
  }
}
inline std::string contents(const std::string& path) {
  return contents(open_file(path, O_RDONLY).get(), path);
}
inline void write_at(int descriptor, std::uint64_t offset, const std::string& text, const std::string& path) {
  const long put =
      must_call(::pwrite(descriptor, text.data(), text.size(), static_cast<off_t>(offset)), "pwrite " + path);
  expect(static_cast<std::size_t>(put) == text.size(), "short write of " + path);
}
inline bool exists(const std::string& path) {
  struct stat found{};
  if (::lstat(path.c_str(), &found) == 0) return true;
  expect(errno == ENOENT, fmt::format("lstat {}: {}", path, std::strerror(errno)));
  return false;
}
inline struct stat attributes(const std::string& path) {
  struct stat found{};
  must_call(::lstat(path.c_str(), &found), "lstat " + path);
  return found;
}
/// As the node has it, whatever the kernel keeps.
inline std::uint64_t size_asked_for(const std::string& path) {
  struct statx found{};
  must_call(::statx(AT_FDCWD, path.c_str(), AT_STATX_FORCE_SYNC, STATX_SIZE, &found), "statx " + path);
  return found.stx_size;
}
inline std::set<std::string> names(const std::string& folder) {
  DIR* directory = ::opendir(folder.c_str());
  expect(directory != nullptr, fmt::format("opendir {}: {}", folder, std::strerror(errno)));
  std::set<std::string> found;
  while (const dirent* entry = ::readdir(directory))
    if (entry->d_name[0] != '.') found.emplace(entry->d_name);
  ::closedir(directory);
  return found;
}

/// A whole file in memory, shared, for reading and writing.
class Mapping {
 public:
  Mapping(const std::string& path, std::size_t bytes) : bytes_(bytes) {
    const FileDescriptor file = open_file(path, O_RDWR);
    void* place = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
    expect(place != MAP_FAILED, fmt::format("mmap {}: {}", path, std::strerror(errno)));
    place_ = static_cast<volatile std::uint64_t*>(place);
  }
  ~Mapping() { ::munmap(const_cast<std::uint64_t*>(place_), bytes_); }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  volatile std::uint64_t& operator[](std::size_t index) const { return place_[index]; }

 private:
  volatile std::uint64_t* place_;
  std::size_t bytes_;
};

}  // namespace corral::test
