#include "fuse/caller_groups.h"

#include <charconv>
#include <fstream>
#include <iterator>
#include <string>

#include <fmt/format.h>

namespace corral {

bool in_additional_groups(const Caller& caller, std::uint32_t gid) {
  if (caller.pid == 0) return false;
  std::ifstream file(fmt::format("/proc/{}/status", caller.pid));
  return status_has_group(std::string(std::istreambuf_iterator<char>(file), {}), gid);
}

bool status_has_group(std::string_view status, std::uint32_t gid) {
  constexpr std::string_view kTitle = "\nGroups:";
  std::size_t begin = status.find(kTitle);
  if (begin == std::string_view::npos) return false;
  std::string_view line = status.substr(begin + kTitle.size());
  line = line.substr(0, line.find('\n'));
  while (!line.empty()) {
    const std::size_t start = line.find_first_of("0123456789");
    if (start == std::string_view::npos) return false;
    line.remove_prefix(start);
    std::uint32_t group = 0;
    auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), group);
    if (error == std::errc() && group == gid) return true;
    line.remove_prefix(static_cast<std::size_t>(end - line.data()));
  }
  return false;
}

}  // namespace corral
