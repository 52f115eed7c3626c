#include "fuse/loop_device.h"

#include <cstdio>
#include <cstring>

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

namespace corral {

namespace {
/// Others attach loop devices too and may take the free one first.
constexpr int kAttempts = 32;

Result<LoopDevice> attach_to(const FileDescriptor& backing, const std::string& file, bool read_only) {
  int access = read_only ? O_RDONLY : O_RDWR;
  FileDescriptor control(open("/dev/loop-control", O_RDWR | O_CLOEXEC));
  if (!control) return fail(errno, "/dev/loop-control: {}", strerror(errno));
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    int number = ioctl(control.get(), LOOP_CTL_GET_FREE);
    if (number < 0) return fail(errno, "no free loop device: {}", strerror(errno));
    std::string path = fmt::format("/dev/loop{}", number);
    FileDescriptor device(open(path.c_str(), access | O_CLOEXEC));
    if (!device) return fail(errno, "{}: {}", path, strerror(errno));
    loop_config config{};
    config.fd = static_cast<__u32>(backing.get());
    config.info.lo_flags = LO_FLAGS_AUTOCLEAR | (read_only ? LO_FLAGS_READ_ONLY : 0);
    std::snprintf(reinterpret_cast<char*>(config.info.lo_file_name), sizeof(config.info.lo_file_name), "%s",
                  file.c_str());
    if (ioctl(device.get(), LOOP_CONFIGURE, &config) == 0) return LoopDevice{std::move(path), std::move(device)};
    if (errno != EBUSY) return fail(errno, "attaching {} to {}: {}", path, file, strerror(errno));
  }
  return fail(EBUSY, "no free loop device");
}
}  // namespace

Result<LoopDevice> LoopDevice::attach(const std::string& file, bool read_only) {
  FileDescriptor backing(open(file.c_str(), (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC));
  if (!backing) return fail(errno, "{}: {}", file, strerror(errno));
  return attach_to(backing, file, read_only);
}

Result<LoopDevice> LoopDevice::attach_placeholder(const std::string& name) {
  constexpr off_t kBytes = 1 << 20;
  FileDescriptor backing(memfd_create("placeholder", MFD_CLOEXEC));
  if (!backing || ftruncate(backing.get(), kBytes) != 0) return fail(errno, "memfd_create: {}", strerror(errno));
  return attach_to(backing, name, false);
}

}  // namespace corral
