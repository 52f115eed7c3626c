#include "fuse/caller_syscall.h"

#include <sstream>
#include <string>

#include <fcntl.h>
#include <fmt/format.h>

#include "base/first_line.h"

namespace corral {

bool waits_for_open_file_lock(std::uint32_t thread) {
  return is_wait_for_open_file_lock(first_line(fmt::format("/proc/{}/syscall", thread)));
}

bool is_wait_for_open_file_lock(std::string_view line) {
  // fcntl(descriptor, command, lock), by whatever number: who asks has a request of that call under way.
  std::istringstream words{std::string(line)};
  long number = 0;
  unsigned long descriptor = 0;
  unsigned long command = 0;
  words >> number >> std::hex >> descriptor >> command;
  return !words.fail() && command == F_OFD_SETLKW;
}

}  // namespace corral
