/// The Corral mounts of this host, as the kernel lists them. Nothing here touches a mount, which may hang.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/result.h"

namespace corral {

struct CorralMount {
  std::string directory;
  /// Block device, image file or iscsi:// name. Behind a loop device: what that stands for.
  std::string device;
  std::uint32_t device_major = 0;
  std::uint32_t device_minor = 0;

  /// Asks the mount's process; see ask_mount().
  Result<nlohmann::json> ask(const nlohmann::json& request) const;
  /// Has it do something that takes its time; see command_mount().
  Result<nlohmann::json> command(const nlohmann::json& request) const;
};

/// Of a text in the form of /proc/self/mountinfo (proc(5)): those of types fuseblk.corral and fuse.corral.
std::vector<CorralMount> parse_mounts(const std::string& mountinfo);
/// Of this process's mount namespace. A mount that is seen in several places is listed once.
Result<std::vector<CorralMount>> corral_mounts();
/// The mount at that path, which is compared as it is written: it is not looked at. ENOENT.
Result<CorralMount> mount_at(const std::string& path);
/// Whether a command's MOUNTPOINT|DEVICE is a folder, so far as its name and the kernel's list of mounts tell.
bool names_mount_point(const std::string& target);

}  // namespace corral
