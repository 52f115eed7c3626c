/// A loop block device over an image file, or over nothing.
#pragma once

#include <string>

#include "base/file_descriptor.h"
#include "base/result.h"

namespace corral {

struct LoopDevice {
  std::string path;
  /// Keeps it attached; it detaches by itself when neither this nor a mount holds it any more.
  FileDescriptor descriptor;

  static Result<LoopDevice> attach(const std::string& file, bool read_only);
  /// A block device without contents, `name` being told as its backing file: for a mount that wants some block device.
  static Result<LoopDevice> attach_placeholder(const std::string& name);
};

}  // namespace corral
