/// What the thread that made a request does in the kernel, where the request does not tell.
#pragma once

#include <cstdint>
#include <string_view>

namespace corral {

/// Whether the thread waits in fcntl(2) for an open file description lock (F_OFD_SETLKW). Looks at
/// /proc/THREAD/syscall. False also if it cannot be seen (another namespace of processes, a kernel without that file).
bool waits_for_open_file_lock(std::uint32_t thread);

/// The same of the line in that file: a number, then the arguments in hexadecimal (proc(5)).
bool is_wait_for_open_file_lock(std::string_view line);

}  // namespace corral
