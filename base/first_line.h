/// What /proc and /sys tell in a line.
#pragma once

#include <filesystem>
#include <fstream>
#include <string>

namespace corral {

/// The file's first line, without its end; empty where there is none, or no file.
inline std::string first_line(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

}  // namespace corral
