/// Who uses a block device or image file, in words, for the message that refuses to use it as well.
#pragma once

#include <string>

namespace corral {

/// For example "mounted on /srv/data" or "locked by process 4711 (mount.corral)"; several are joined with ", ". Empty
/// if nothing is found: the kernel does not tell everything, and not everything to everybody.
std::string describe_users(int descriptor);

/// The loop device that has the file as its backing, such as "/dev/loop3"; empty if none has.
std::string find_loop_device(int descriptor);

}  // namespace corral
