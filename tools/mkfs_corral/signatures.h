/// What is on a device already, as libblkid knows it: filesystems, RAID and LVM members, partition tables.
///
/// libblkid wants a file. It gets one in memory, as large as the device and with what lies at both its ends, where all
/// those signatures are; so every kind of device is looked at, and erased, in one way.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/file_descriptor.h"
#include "base/result.h"
#include "base/task.h"
#include "disk/device.h"

namespace corral::mkfs {

class Signatures {
 public:
  static Task<Result<Signatures>> find(Device& device);

  /// For people, one text each: "a partition table (gpt)", "ext4 (label: data)". Empty if nothing is recognised.
  const std::vector<std::string>& found() const { return found_; }

  /// Erases every signature, so that nobody takes the device for what it was: some lie where a new volume does not
  /// write. Stable when it returns.
  Task<Result<>> wipe(Device& device);

 private:
  /// A piece at one end of the device.
  struct End {
    std::uint64_t offset_bytes;
    std::uint64_t length_bytes;
  };
  static std::vector<End> ends_of(const DeviceGeometry& geometry);
  explicit Signatures(FileDescriptor file) : file_(std::move(file)) {}
  Result<> recognise(const Device& device);

  FileDescriptor file_;
  std::vector<std::string> found_;
  bool partitions_ = false;
};

}  // namespace corral::mkfs
