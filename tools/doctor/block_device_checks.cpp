#include "tools/doctor/block_device_checks.h"

#include <algorithm>
#include <filesystem>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/first_line.h"

namespace corral::doctor {

namespace files = std::filesystem;

namespace {

/// What tells a disk from all others; empty where it does not say. SCSI's is under its device, and padded.
std::string wwid_of(const files::path& folder) {
  std::string id = first_line(folder / "device" / "wwid");
  if (id.empty()) id = first_line(folder / "wwid");
  while (!id.empty() && id.back() == ' ')
    id.pop_back();
  return id;
}

std::vector<std::string> names_in(const files::path& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (files::directory_iterator at(folder, error), end; !error && at != end; at.increment(error))
    names.push_back(at->path().filename());
  std::ranges::sort(names);
  return names;
}

constexpr const char* kWholeDisk =
    "for several nodes use the whole disk: persistent reservations, which keep the dead from writing, are whole disks'";

void check_mapped(const files::path& folder, const std::string& name, Findings& findings) {
  const std::string uuid = first_line(folder / "dm" / "uuid");
  const std::size_t paths = names_in(folder / "slaves").size();
  if (uuid.starts_with("mpath-")) {
    if (paths > 1) return findings.good("paths", fmt::format("{} is a multipath device with {} paths", name, paths));
    return findings.warn("paths", fmt::format("{} is a multipath device with {} path", name, paths),
                         "multipath -ll shows what became of the others");
  }
  const std::string kind = uuid.starts_with("LVM-")     ? "a logical volume"
                           : uuid.starts_with("part")   ? "a partition of a multipath device"
                           : uuid.starts_with("CRYPT-") ? "an encrypted device"
                                                        : "a mapped device";
  findings.problem("whole disk", fmt::format("{} is {}", name, kind), kWholeDisk);
}

/// Other disks of the kernel's that are the same one, reached another way.
void check_same_disk(const files::path& sys, const files::path& folder, const std::string& name, Findings& findings) {
  for (const std::string& holder : names_in(folder / "holders")) {
    const std::string uuid = first_line(sys / "block" / holder / "dm" / "uuid");
    if (!uuid.starts_with("mpath-")) continue;
    return findings.problem("paths", fmt::format("{} is one path of a multipath device", name),
                            fmt::format("use /dev/mapper/{}", first_line(sys / "block" / holder / "dm" / "name")));
  }
  const std::string own_id = wwid_of(folder);
  if (own_id.empty()) return findings.note("paths", fmt::format("{} tells no WWID: other paths cannot be seen", name));
  std::vector<std::string> same;
  for (const std::string& other : names_in(sys / "block")) {
    if (other != name && wwid_of(sys / "block" / other) == own_id) same.push_back(other);
  }
  if (same.empty()) return findings.good("paths", fmt::format("{} is reached over one path", name));
  findings.problem("paths", fmt::format("{} is the same disk as {} (WWID {})", name, fmt::join(same, ", "), own_id),
                   "set up multipathd and use the /dev/mapper device: a key is registered on every path only there");
}

}  // namespace

void check_block_device(const std::string& sys, std::uint32_t device_major, std::uint32_t device_minor,
                        Findings& findings) {
  std::error_code error;
  const files::path folder =
      files::canonical(fmt::format("{}/dev/block/{}:{}", sys, device_major, device_minor), error);
  if (error) return findings.note("whole disk", fmt::format("sysfs tells nothing of it: {}", error.message()));
  const std::string name = folder.filename();
  if (first_line(folder / "ro") == "1")
    findings.problem("read only", fmt::format("{} takes no writes", name),
                     "blockdev --setrw, or the storage's setting");
  if (files::exists(folder / "partition", error))
    return findings.problem("whole disk", fmt::format("{} is a partition", name), kWholeDisk);
  if (files::exists(folder / "dm", error)) return check_mapped(folder, name, findings);
  if (files::exists(folder / "loop", error))
    return findings.note("whole disk", fmt::format("{} is a loop device: for nodes of this host only", name),
                         "name the image file instead: nodes are then fenced by the end of their processes");
  findings.good("whole disk", fmt::format("{} is a whole disk", name));
  check_same_disk(sys, folder, name, findings);
}

}  // namespace corral::doctor
