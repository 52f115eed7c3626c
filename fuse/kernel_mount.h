/// mount(2) and umount(2) of a Corral mount. All of it may block on requests to the mount itself: call it on a helper
/// thread, never on the loop's.
///
/// The mount is of type fuseblk, whose umount(2) waits until the front has answered DESTROY: when umount returns, the
/// volume is written and its journal clean. fuseblk wants a block device, which the kernel then holds exclusively. For
/// an image file a loop device is attached for that purpose alone, and for a disk behind iSCSI one without contents;
/// the filesystem's own I/O goes to the file or the disk.
#pragma once

#include <cstdint>
#include <string>

#include "base/log.h"
#include "base/result.h"

namespace corral {

class KernelMount {
 public:
  struct Request {
    std::string source;     ///< block device or image file, absolute, or iscsi:// name
    std::string directory;  ///< mount point, absolute
    unsigned long flags = 0;
    std::string security_options;  ///< SELinux contexts for the kernel, as given
    std::uint32_t block_size = 0;
  };

  /// Mounts with `fuse_device` (an opened /dev/fuse); its requests come from then on. EBUSY if the device is in use.
  Result<> mount(int fuse_device, Request request, const Logger& log);

  /// st_dev of the mount's files; 0:0 where it could not be found out.
  struct DeviceNumber {
    std::uint32_t major = 0;
    std::uint32_t minor = 0;
  };
  DeviceNumber device_number() const { return device_number_; }

  /// How far the kernel may read ahead of a sequential reader. Failing to set it is no error: it only costs speed.
  void set_read_ahead(std::uint64_t bytes) const;

  enum class Unmounted {
    completely,
    detached,  ///< out of sight, but files are open: the kernel's dirty pages have been written
    not_ours,  ///< something else is mounted there by now, or nothing
  };
  /// Unmounts, if need be with files still open.
  Result<Unmounted> unmount() const;

  /// MS_REMOUNT with generic flags (ro, nodev, ...): the front is not asked.
  static Result<> remount(const std::string& directory, unsigned long flags);

 private:
  Result<> mount_as_block_device(const std::string& device, const std::string& options) const;
  Result<> mount_plain(const std::string& options) const;
  void remember_mount();

  Request request_;
  std::uint64_t mount_id_ = 0;
  DeviceNumber device_number_;
  std::string backing_device_info_;  ///< folder of the mount's read-ahead setting
};

}  // namespace corral
