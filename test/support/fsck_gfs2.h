/// The judge that we did not write: fsck.gfs2 of gfs2-utils.
#pragma once

#include <cstdio>
#include <filesystem>
#include <string>

#include <fmt/format.h>
#include <unistd.h>

#include "disk/disk_image.h"

namespace corral::test {

/// What it says of the volume; empty if it finds nothing, or is not installed.
inline std::string fsck_gfs2(const DiskImage& image) {
  constexpr const char* kProgram = "/usr/sbin/fsck.gfs2";
  if (::access(kProgram, X_OK) != 0) return {};
  const std::string path =
      (std::filesystem::temp_directory_path() / fmt::format("corral-test-{}.img", ::getpid())).string();
  if (auto saved = image.save(path); !saved) return saved.error().describe();
  FILE* pipe = ::popen(fmt::format("{} -n {} 2>&1", kProgram, path).c_str(), "r");
  std::string output;
  char buffer[4096];
  while (std::size_t got = std::fread(buffer, 1, sizeof(buffer), pipe))
    output.append(buffer, got);
  const int status = ::pclose(pipe);
  std::filesystem::remove(path);
  return status == 0 ? std::string{} : output;
}

}  // namespace corral::test
