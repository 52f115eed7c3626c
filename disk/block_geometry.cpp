#include "disk/block_geometry.h"

#include <algorithm>
#include <cstring>
#include <fstream>
#include <optional>

#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

namespace corral {

namespace {
/// First line of a file of the device's queue folder in sysfs; a partition has its disk's.
std::optional<std::string> read_queue_setting(dev_t device, const char* setting) {
  std::string folder = fmt::format("/sys/dev/block/{}:{}", major(device), minor(device));
  for (const char* queue : {"queue", "../queue"}) {
    std::ifstream file(fmt::format("{}/{}/{}", folder, queue, setting));
    std::string line;
    if (std::getline(file, line)) return line;
  }
  return std::nullopt;
}

std::uint64_t read_queue_number(dev_t device, const char* setting) {
  std::optional<std::string> text = read_queue_setting(device, setting);
  return text ? std::strtoull(text->c_str(), nullptr, 10) : 0;
}

template <class Number>
Result<Number> read_ioctl(int descriptor, unsigned long request, const char* request_name, const std::string& name) {
  Number number{};
  if (ioctl(descriptor, request, &number) != 0)
    return fail_device(errno, "{}: {} failed: {}", name, request_name, std::strerror(errno));
  return number;
}

Result<DeviceGeometry> block_device_geometry(int descriptor, dev_t device, const std::string& name) {
  DeviceGeometry geometry;
  TRY(geometry.size_bytes, read_ioctl<std::uint64_t>(descriptor, BLKGETSIZE64, "BLKGETSIZE64", name));
  TRY(int sector, read_ioctl<int>(descriptor, BLKSSZGET, "BLKSSZGET", name));
  TRY(unsigned physical, read_ioctl<unsigned>(descriptor, BLKPBSZGET, "BLKPBSZGET", name));
  TRY(geometry.minimum_io_bytes, read_ioctl<unsigned>(descriptor, BLKIOMIN, "BLKIOMIN", name));
  TRY(geometry.optimal_io_bytes, read_ioctl<unsigned>(descriptor, BLKIOOPT, "BLKIOOPT", name));
  TRY(int offset, read_ioctl<int>(descriptor, BLKALIGNOFF, "BLKALIGNOFF", name));
  TRY(int read_only, read_ioctl<int>(descriptor, BLKROGET, "BLKROGET", name));
  geometry.sector_bytes = static_cast<std::uint32_t>(sector);
  geometry.physical_sector_bytes = physical;
  geometry.alignment_offset_bytes = static_cast<std::uint32_t>(std::max(offset, 0));  // -1: misaligned stack
  geometry.read_only = read_only != 0;
  if (read_queue_number(device, "discard_max_bytes") > 0) {
    std::uint64_t granularity = read_queue_number(device, "discard_granularity");
    geometry.discard_granularity_bytes = std::max(static_cast<std::uint32_t>(granularity), geometry.sector_bytes);
  }
  // Where the kernel does not say, a cache is assumed: a needless flush costs time, a missing one data.
  geometry.volatile_write_cache = read_queue_setting(device, "write_cache") != "write through";
  return geometry;
}

DeviceGeometry file_geometry(const struct stat& status) {
  DeviceGeometry geometry;
  geometry.sector_bytes = 512;
  geometry.size_bytes = static_cast<std::uint64_t>(status.st_size) / geometry.sector_bytes * geometry.sector_bytes;
  geometry.physical_sector_bytes = std::clamp<std::uint32_t>(static_cast<std::uint32_t>(status.st_blksize), 512, 4096);
  geometry.discard_granularity_bytes = geometry.physical_sector_bytes;
  return geometry;
}
}  // namespace

Result<DeviceGeometry> read_geometry(int descriptor, const std::string& name) {
  struct stat status{};
  if (fstat(descriptor, &status) != 0) return fail_device(errno, "{}: {}", name, std::strerror(errno));
  if (S_ISBLK(status.st_mode)) return block_device_geometry(descriptor, status.st_rdev, name);
  if (S_ISREG(status.st_mode)) return file_geometry(status);
  return fail_device(ENOTBLK, "{}: neither a block device nor a file", name);
}

}  // namespace corral
