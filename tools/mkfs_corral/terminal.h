/// What mkfs.corral says to people.
#pragma once

#include <string>
#include <vector>

#include "disk/device.h"
#include "tools/mkfs/volume_image.h"
#include "tools/mkfs/write_volume.h"

namespace corral::mkfs {

/// The figures of the volume, one a line.
std::string summary(const std::string& device, const DeviceGeometry& geometry, const VolumeImage& image);
/// Where every resource group and journal lies.
std::string layout_details(const VolumeImage& image);

/// Shows a percentage in place while writing, on a terminal only.
class ProgressLine {
 public:
  /// `shown` false: says nothing.
  explicit ProgressLine(bool shown) : shown_(shown) {}
  ~ProgressLine() { end(); }
  void update(WritePhase phase, std::uint64_t done_bytes, std::uint64_t total_bytes);
  /// Clears the line.
  void end();

 private:
  bool shown_;
  std::string line_;
};

/// Asks whether `contents` may be destroyed. True only for a clear yes.
bool confirm_overwrite(const std::string& device, const std::string& contents);

}  // namespace corral::mkfs
