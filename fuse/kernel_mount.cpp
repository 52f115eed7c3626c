#include "fuse/kernel_mount.h"

#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/file_descriptor.h"
#include "disk/open_device.h"
#include "fuse/loop_device.h"

namespace corral {

namespace {
constexpr const char* kBlockType = "fuseblk.corral";
constexpr const char* kPlainType = "fuse.corral";

Result<struct statx> look_at(const std::string& path) {
  struct statx status{};
  // What the kernel knows by itself is enough; it does not ask the front.
  if (statx(AT_FDCWD, path.c_str(), AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, STATX_TYPE | STATX_MNT_ID, &status) != 0)
    return fail(errno, "{}: {}", path, strerror(errno));
  return status;
}

bool is_block_device(const std::string& path) {
  struct stat status{};
  return stat(path.c_str(), &status) == 0 && S_ISBLK(status.st_mode);
}

Result<LoopDevice> attach_loop_device(const KernelMount::Request& request) {
  if (!names_path(request.source)) return LoopDevice::attach_placeholder(request.source);
  return LoopDevice::attach(request.source, (request.flags & MS_RDONLY) != 0);
}
}  // namespace

Result<> KernelMount::mount(int fuse_device, Request request, const Logger& log) {
  request_ = std::move(request);
  std::string options =
      fmt::format("fd={},rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other", fuse_device);
  if (!request_.security_options.empty()) options += "," + request_.security_options;
  std::string block_options = fmt::format("{},blksize={}", options, request_.block_size);

  Result<> mounted;
  if (is_block_device(request_.source)) {
    mounted = mount_as_block_device(request_.source, block_options);
  } else if (auto loop = attach_loop_device(request_); loop) {
    mounted = mount_as_block_device(loop->path, block_options);
  } else {
    log.warning("umount will return before the volume is written: {}", loop.error().describe());
    mounted = mount_plain(options);
  }
  if (mounted) remember_mount();
  return mounted;
}

Result<> KernelMount::mount_as_block_device(const std::string& device, const std::string& options) const {
  if (::mount(device.c_str(), request_.directory.c_str(), kBlockType, request_.flags, options.c_str()) == 0) return {};
  if (errno == EBUSY) return fail(EBUSY, "{} is in use, or already mounted on {}", device, request_.directory);
  return fail(errno, "mounting {} on {}: {}", device, request_.directory, strerror(errno));
}

Result<> KernelMount::mount_plain(const std::string& options) const {
  if (::mount(request_.source.c_str(), request_.directory.c_str(), kPlainType, request_.flags, options.c_str()) == 0)
    return {};
  return fail(errno, "mounting {} on {}: {}", request_.source, request_.directory, strerror(errno));
}

void KernelMount::remember_mount() {
  Result<struct statx> status = look_at(request_.directory);
  if (!status) return;
  if ((status->stx_mask & STATX_MNT_ID) != 0) mount_id_ = status->stx_mnt_id;
  device_number_ = {status->stx_dev_major, status->stx_dev_minor};
  std::string number = fmt::format("/sys/class/bdi/{}:{}", status->stx_dev_major, status->stx_dev_minor);
  // Mounts of type fuseblk have one of their own beside the device's.
  backing_device_info_ = access((number + "-fuseblk").c_str(), F_OK) == 0 ? number + "-fuseblk" : number;
}

void KernelMount::set_read_ahead(std::uint64_t bytes) const {
  FileDescriptor setting(open((backing_device_info_ + "/read_ahead_kb").c_str(), O_WRONLY | O_CLOEXEC));
  if (!setting) return;
  std::string text = fmt::format("{}\n", bytes / 1024);
  [[maybe_unused]] ssize_t written = write(setting.get(), text.data(), text.size());
}

Result<KernelMount::Unmounted> KernelMount::unmount() const {
  TRY(struct statx status, look_at(request_.directory));
  if (mount_id_ != 0 && (status.stx_mask & STATX_MNT_ID) != 0 && status.stx_mnt_id != mount_id_)
    return Unmounted::not_ours;
  if (umount2(request_.directory.c_str(), UMOUNT_NOFOLLOW) == 0) return Unmounted::completely;
  if (errno == EINVAL) return Unmounted::not_ours;
  if (errno != EBUSY) return fail(errno, "unmounting {}: {}", request_.directory, strerror(errno));

  FileDescriptor directory(open(request_.directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (directory && syncfs(directory.get()) != 0)
    return fail(errno, "writing the pages of {}: {}", request_.directory, strerror(errno));
  directory = FileDescriptor();
  if (umount2(request_.directory.c_str(), UMOUNT_NOFOLLOW | MNT_DETACH) != 0)
    return fail(errno, "detaching {}: {}", request_.directory, strerror(errno));
  return Unmounted::detached;
}

Result<> KernelMount::remount(const std::string& directory, unsigned long flags) {
  if (::mount(nullptr, directory.c_str(), nullptr, flags | MS_REMOUNT, nullptr) == 0) return {};
  return fail(errno, "remounting {}: {}", directory, strerror(errno));
}

}  // namespace corral
