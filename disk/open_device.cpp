#include "disk/open_device.h"

#include <array>
#include <climits>
#include <cstdlib>
#include <cstring>

#include <sys/stat.h>

#include "disk/iscsi_device.h"
#include "disk/uring_device.h"

namespace corral {

bool names_path(const std::string& name) {
  return !IscsiName::is_one(name);
}

Result<std::string> absolute_device_name(const std::string& name) {
  if (!names_path(name)) {
    TRY_VOID(IscsiName::parse(name));
    return name;
  }
  std::array<char, PATH_MAX> path{};
  struct stat status{};
  if (realpath(name.c_str(), path.data()) == nullptr || stat(path.data(), &status) != 0)
    return fail(errno, "{}: {}", name, std::strerror(errno));
  if (!S_ISBLK(status.st_mode) && !S_ISREG(status.st_mode))
    return fail(ENOTBLK, "{}: not a block device or image file", name);
  return std::string(path.data());
}

Task<Result<std::unique_ptr<StorageDevice>>> open_device(EventLoop& loop, std::string name, StorageOptions options) {
  if (!names_path(name)) co_return co_await IscsiDevice::open(loop, std::move(name), options);
  co_return UringDevice::open(loop, name, options);
}

}  // namespace corral
